package usp

func webSocketTests() map[string]test { return nil }
