package diag

import (
	"context"
	"crypto"
	_ "crypto/sha1"   // CheckSumAlgorithm SHA-1
	_ "crypto/sha256" // SHA-224, SHA-256
	_ "crypto/sha512" // SHA-384, SHA-512
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/icholy/digest"

	"twinspan/datamodel"
)

// name is the key of the row that a command is about.
func rowName(inv datamodel.Invocation) string {
	if inv.Object.Stored == nil {
		return ""
	}
	return inv.Object.Stored(inv.Object.Path + "Name")
}

func failed(inv datamodel.Invocation, text string) error {
	return datamodel.Fail(datamodel.CommandFailed, inv.Command, text)
}

// uploadLog is VendorLogFile.{i}.Upload().
func (p *Provider) uploadLog(ctx context.Context, r *run) error {
	name := rowName(r.inv)
	for _, f := range p.o.LogFiles {
		if f.Name == name {
			most := int64(maxLogBytes)
			if f.MaximumSize > 0 {
				most = int64(min(f.MaximumSize, maxLogBytes))
			}
			return p.send(ctx, r, most, f.Write)
		}
	}
	return datamodel.Fail(datamodel.NotImplemented, r.inv.Command, "this log file cannot be uploaded")
}

// LogFile is what writes the log file of a name; nil: there is none.
func (p *Provider) LogFile(name string) func(ctx context.Context, w io.Writer) error {
	for _, f := range p.o.LogFiles {
		if f.Name == name {
			return f.Write
		}
	}
	return nil
}

// backup is VendorConfigFile.{i}.Backup().
func (p *Provider) backup(ctx context.Context, r *run) error {
	f, ok := p.configFile(r)
	if !ok || f.Export == nil {
		return datamodel.Fail(datamodel.NotImplemented, r.inv.Command, "this configuration file cannot be saved")
	}
	return p.send(ctx, r, maxConfigBytes, f.Export)
}

func (p *Provider) configFile(r *run) (ConfigFile, bool) {
	name := rowName(r.inv)
	for _, f := range p.o.ConfigFiles {
		if f.Name == name {
			return f, true
		}
	}
	return ConfigFile{}, false
}

// restore is VendorConfigFile.{i}.Restore(): everything is checked before the file is put in force.
func (p *Provider) restore(ctx context.Context, r *run) error {
	f, ok := p.configFile(r)
	if !ok || f.Import == nil {
		return datamodel.Fail(datamodel.NotImplemented, r.inv.Command, "this configuration file cannot be restored")
	}
	u, err := httpURL(r.args, "URL")
	if err != nil {
		return err
	}
	hash, want, err := checksum(r.args)
	if err != nil {
		return err
	}
	size := r.args.number("FileSize", 0, 0, maxConfigBytes)
	if r.args.err != nil {
		return r.args.err
	}
	spool, err := p.spool()
	if err != nil {
		return err
	}
	defer spool.Close()
	if err := p.exchange(ctx, r, http.MethodGet, u, nil, func(body io.Reader) error {
		n, err := io.Copy(spool, io.LimitReader(body, maxConfigBytes+1))
		switch {
		case err != nil:
			return err
		case n > maxConfigBytes:
			return failed(r.inv, "the file is larger than "+strconv.Itoa(maxConfigBytes)+" bytes")
		case size != 0 && uint64(n) != size:
			return failed(r.inv, fmt.Sprintf("the file has %d bytes instead of FileSize", n))
		}
		return nil
	}); err != nil {
		return err
	}
	if want != nil {
		if _, err := spool.Seek(0, io.SeekStart); err != nil {
			return err
		}
		h := hash.New()
		if _, err := io.Copy(h, spool); err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(h.Sum(nil), want) != 1 {
			return failed(r.inv, "the checksum of the file is not CheckSum")
		}
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := f.Import(ctx, r.args.m["TargetFileName"], spool); err != nil {
		return fmt.Errorf("the configuration could not be put in force: %w", err)
	}
	return nil
}

var hashes = map[string]crypto.Hash{"SHA-1": crypto.SHA1, "SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256,
	"SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// checksum reads CheckSumAlgorithm and CheckSum; want is nil when there is none.
func checksum(a *args) (hash crypto.Hash, want []byte, err error) {
	name, sum := a.m["CheckSumAlgorithm"], a.m["CheckSum"]
	if sum == "" {
		return 0, nil, nil
	}
	hash, ok := hashes[name]
	if !ok {
		a.fail("CheckSumAlgorithm", "must be SHA-1, SHA-224, SHA-256, SHA-384 or SHA-512 with a CheckSum")
		return 0, nil, a.err
	}
	want, err = hex.DecodeString(sum)
	if err != nil || len(want) != hash.Size() {
		a.fail("CheckSum", "is not a checksum of the algorithm")
		return 0, nil, a.err
	}
	return hash, want, nil
}

// send writes a file to the spool and puts it to the URL.
func (p *Provider) send(ctx context.Context, r *run, most int64, write func(context.Context, io.Writer) error) error {
	u, err := httpURL(r.args, "URL")
	if err != nil {
		return err
	}
	spool, err := p.spool()
	if err != nil {
		return err
	}
	defer spool.Close()
	if err := write(ctx, &bounded{w: spool, left: most}); err != nil {
		return fmt.Errorf("the content could not be read: %w", err)
	}
	return p.exchange(ctx, r, http.MethodPut, u, spool, func(io.Reader) error { return nil })
}

// bounded refuses to write more than left bytes.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, errors.New("the file is too large")
	}
	b.left -= int64(len(p))
	return b.w.Write(p)
}

// spool is a temporary file that has no name any more.
func (p *Provider) spool() (*os.File, error) {
	f, err := os.CreateTemp(p.o.Spool, "twinspan-*.tmp") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	return f, nil
}

// exchange sends one request with the credentials of the command, and once more when the server asks for them (Basic
// over TLS is sent at once). body may be nil. use gets the body of a good response.
func (p *Provider) exchange(ctx context.Context, r *run, method string, u *url.URL, body *os.File, use func(io.Reader) error) error {
	user, password := r.args.m["Username"], r.args.m["Password"]
	tr := p.transport(via{}, method == http.MethodGet, nil, nil)
	defer tr.CloseIdleConnections()
	t := transfer{}
	client := http.Client{Transport: tr, CheckRedirect: t.redirect}
	authorization := ""
	if user != "" && strings.EqualFold(u.Scheme, "https") {
		authorization = basic(user, password)
	}
	for try := 0; ; try++ {
		resp, err := p.roundTrip(ctx, &client, method, u, body, authorization)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var ue *url.Error
			if errors.As(err, &ue) {
				err = ue.Err // without the URL, which may hold credentials
			}
			return &datamodel.Error{Reason: datamodel.CommandFailed, Path: r.inv.Command, Text: "the transfer failed", Err: err}
		}
		if resp.StatusCode == http.StatusUnauthorized && try == 0 && user != "" {
			authorization = answerTo(resp, authorization, method, user, password)
			resp.Body.Close()
			if authorization != "" {
				continue
			}
		}
		defer resp.Body.Close()
		if resp.StatusCode < 200 || resp.StatusCode > 299 {
			return failed(r.inv, "the server answered with status "+strconv.Itoa(resp.StatusCode))
		}
		if err := use(resp.Body); err != nil {
			return errors.Join(ctx.Err(), err)
		}
		return nil
	}
}

func (p *Provider) roundTrip(ctx context.Context, client *http.Client, method string, u *url.URL, body *os.File, authorization string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if body != nil {
		end, err := body.Seek(0, io.SeekEnd)
		if err != nil {
			return nil, err
		}
		if end > 0 {
			open := func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(body, 0, end)), nil }
			req.Body, _ = open()
			req.GetBody, req.ContentLength = open, end
			req.Header.Set("Expect", "100-continue") // a refusal then comes before the content
		}
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return client.Do(req)
}

func basic(user, password string) string {
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(user, password)
	return req.Header.Get("Authorization")
}

// answerTo a challenge: Digest where it is offered, else Basic unless it was refused already; "" for nothing left.
func answerTo(resp *http.Response, tried, method, user, password string) string {
	if c, err := digest.FindChallenge(resp.Header); err == nil {
		cred, err := digest.Digest(c, digest.Options{Method: method, URI: resp.Request.URL.RequestURI(), Count: 1,
			Username: user, Password: password})
		if err == nil {
			return cred.String()
		}
	}
	for _, h := range resp.Header.Values("WWW-Authenticate") {
		if tried == "" && len(h) >= 5 && strings.EqualFold(h[:5], "Basic") {
			return basic(user, password)
		}
	}
	return ""
}
