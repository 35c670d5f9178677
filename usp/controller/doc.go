// Package controller is the client side of USP: what the command line, the lab and the tests use to manage an agent.
//
//	c, err := controller.New(controller.Config{EndpointID: "self::me", AgentID: id, Transport: t})
//	go c.Run(ctx)                                  // keeps the transport up until ctx ends
//	err = c.WaitUp(ctx)
//	values, err := c.Get(ctx, "Device.DeviceInfo.")
//
// Request sends any USP request; the typed methods are short forms of it. An Error message of the agent is returned as *Error,
// a refusal inside a response as *Error too, by the typed methods.
//
// # Caveats
//
// OnNotify runs on its own goroutine, one call at a time; it may call Request. A Notify that finds the queue full is not
// answered, so that an agent with NotifRetry sends it again. When the link goes down, requests in flight fail with
// mtp.ErrNotConnected: whether the agent carried them out is then unknown.
//
// # Promises
//
// All methods are safe for concurrent use. What is in flight and what is queued is bounded. Run joins every goroutine of the
// controller and its transport.
package controller
