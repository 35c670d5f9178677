// Package subscribe keeps the rows of Device.LocalAgent.Subscription. in an index that answers one question: which
// Subscriptions does this element concern? It knows nothing of messages and sends nothing.
//
//	ix := subscribe.New()
//	if s, err := subscribe.Read(tree, 7); err == nil { ix.Put(s) }
//	ix.Match(subscribe.ValueChange, "Device.IP.Interface.1.Enable", ask, func(s *subscribe.Sub) { ... })
//
// The index is a tree of path elements. A lookup costs the depth of the path, not the number of Subscriptions, so that
// ten thousand of them are as good as none to a commit that concerns none. Wildcards are branches of the tree;
// expressions are evaluated when a path gets to them, that is when the notification fires (TP-469 1.84), through the
// Ask interface; paths that follow references are kept in a short list and asked for one by one.
//
// An Index is not safe for concurrent use; the agent's notifier goroutine owns it.
package subscribe
