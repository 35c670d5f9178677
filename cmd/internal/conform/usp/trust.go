package usp

func rightsTests() map[string]test    { return nil }
func functionTests() map[string]test  { return nil }
func webSocketTests() map[string]test { return nil }
func mqttTests() map[string]test      { return nil }
