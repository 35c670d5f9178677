package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// metricsTime bounds one scrape.
const metricsTime = 5 * time.Second

// serveMetrics answers GET /metrics on a local address until ctx ends, one connection at a time. It is written by hand: an
// HTTP server would be paid for by every device.
func serveMetrics(ctx context.Context, address string, write func(io.Writer) error) (done func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("bridge.metrics_listen: %w", err)
	}
	ended := make(chan struct{})
	go func() { // ends with the listener; joined by done
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answerMetrics(c, write)
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	return func() { stop(); _ = l.Close(); <-ended }, nil
}

func answerMetrics(c net.Conn, write func(io.Writer) error) {
	defer c.Close()
	if c.SetDeadline(time.Now().Add(metricsTime)) != nil {
		return
	}
	r := bufio.NewReader(io.LimitReader(c, 8<<10))
	line, err := r.ReadString('\n')
	for h := line; err == nil && strings.TrimSpace(h) != ""; {
		h, err = r.ReadString('\n')
	}
	if err != nil {
		return
	}
	if method, rest, _ := strings.Cut(line, " "); method != "GET" || !strings.HasPrefix(rest, "/metrics ") {
		_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nConnection: close\r\n\r\n"); err == nil {
		_ = write(c) // the scraper went away
	}
}
