package cwmp

type connServer struct {
	c    *CPE
	host string
}

func (c *CPE) listen() (*connServer, error)  { return &connServer{c: c}, nil }
func (s *connServer) configure(set settings) {}
func (s *connServer) port() int              { return 0 }
func (s *connServer) close()                 {}
