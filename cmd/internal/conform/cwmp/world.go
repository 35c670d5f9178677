package conformcwmp

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// world is what a check wants of the surroundings of its CPE; the zero value is any.
type world struct {
	noTime  bool        // the CPE does not know the time: canClock
	lease   bool        // the check writes the DHCP client's lease file: canLease
	hosts   string      // lines of the hosts file, where the driver canNames
	network networkKind // canNetwork
	banks   bool        // firmware goes into simulated banks, which USP may fill, too: canInstall
	reboots bool        // an image brings a new SoftwareVersion, and a reboot ends the process: canInstall
}

func (w world) needs() (out []ability) {
	if w.noTime {
		out = append(out, canClock)
	}
	if w.lease {
		out = append(out, canLease)
	}
	if w.network != noNetwork {
		out = append(out, canNetwork)
	}
	return out
}

// worldly is a Driver that makes such a world, before Start. listen is where the ACS must listen, "" for anywhere.
type worldly interface {
	Prepare(w world) (listen string, err error)
}

// Prepare implements worldly.
func (d *agentDriver) Prepare(w world) (listen string, err error) {
	d.world = w
	if w.lease && d.omits("omit_reach") {
		return "", notApplicable("the agent was built without discovery by DHCP")
	}
	if w.network != noNetwork {
		if d.net, err = newNetwork(w.network); err != nil {
			return "", err
		}
		listen = d.net.acs
	}
	if !has(d, canNames) {
		d.world.hosts = ""
	}
	if d.world.hosts != "" {
		err = os.WriteFile(filepath.Join(d.dir, "hosts"), []byte("127.0.0.1 localhost\n"+w.hosts+"\n"), 0o644)
	}
	return listen, err
}

// enter wraps the command line so that the agent lives in its world.
func (d *agentDriver) enter(args []string) ([]string, error) {
	switch {
	case d.net != nil:
		return append([]string{"ip", "netns", "exec", d.net.cpe}, args...), nil
	case d.world.hosts != "":
		return append([]string{"unshare", "-m", "/bin/sh", "-c", `mount --make-rprivate / && mount --bind "$0" /etc/hosts && exec "$@"`,
			filepath.Join(d.dir, "hosts")}, args...), nil
	}
	return args, nil
}

func (w world) deviceKeys() string {
	if w.noTime { // a clock that has not reached this moment was never set
		return "clock_known_after = 2200-01-01T00:00:00Z\n"
	}
	return ""
}

func (w world) cwmpKeys(dir string) string {
	if w.lease {
		return fmt.Sprintf("dhcp_files = [%q]\n", filepath.Join(dir, "lease"))
	}
	return ""
}

// bankKeys are for builds with banks; the others refuse them.
func (w world) bankKeys(d *agentDriver) string {
	if !w.banks || d.omits("omit_firmware") {
		return ""
	}
	return "[firmware]\nbanks = \"simulated\"\n"
}

func (w world) hookKeys() string {
	if !w.reboots {
		return ""
	}
	return "reboot = [\"/bin/sh\", \"-c\", \"kill -9 $PPID\"]\n"
}

// installScript is what the installed image changes: the next start is another software.
func (w world) installScript(dir string) string {
	if !w.reboots {
		return ""
	}
	return `sed -i 's/^software_version .*/software_version = "2.0.0"/' ` + filepath.Join(dir, "agent.toml") + "\n"
}

// lease writes what a DHCP client leaves; the CPE never sees half of it.
func (d *agentDriver) lease(line string) error {
	name := filepath.Join(d.dir, "lease")
	if err := os.WriteFile(name+".new", []byte(line+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// networkKind says what a network of the CPE's own looks like.
type networkKind int

const (
	noNetwork   networkKind = iota
	ipv4Network             // CPE and ACS on one link
	ipv6Network             // the same without IPv4
	farNetwork              // ipv4Network, and a host behind two routers
)

// network is a CPE's network of namespaces, joined to the runner's own by one link.
type network struct {
	kind   networkKind
	cpe    string   // namespace of the CPE
	spaces []string // all of them
	acs    string   // address and port for the ACS to listen on
	prefix string   // of the link: 198.18.N.
	far    string   // the host behind two routers
}

// newNetwork makes it; an error that is a verdict says why this machine has none.
func newNetwork(kind networkKind) (n *network, err error) {
	random := make([]byte, 3)
	_, _ = rand.Read(random) // never fails
	id := "twc" + hex.EncodeToString(random)
	third, err := rand.Int(rand.Reader, big.NewInt(250))
	if err != nil {
		return nil, err
	}
	n = &network{kind: kind, cpe: id + "c", prefix: fmt.Sprintf("198.18.%d.", third.Int64()+1)} // of the range for benchmarks, RFC 2544
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	add := func(name string) error {
		if err := ip("netns", "add", name); err != nil {
			return err
		}
		n.spaces = append(n.spaces, name)
		return ip("-n", name, "link", "set", "lo", "up")
	}
	if err := add(n.cpe); err != nil {
		return nil, notShown("this machine makes no network namespaces: %v", err)
	}
	host := id + "h"
	lines := []string{"link add " + host + " type veth peer name veth0 netns C", "link set " + host + " up", "-n C link set veth0 up"}
	if kind == ipv6Network {
		prefix := fmt.Sprintf("fd54:7773:%x::", third.Int64()+1)
		n.acs = "[" + prefix + "1]:0"
		lines = append(lines, "addr add "+prefix+"1/64 dev "+host+" nodad", "-n C addr add "+prefix+"2/64 dev veth0 nodad")
	} else {
		n.acs = n.prefix + "1:0"
		lines = append(lines, "addr add "+n.prefix+"1/24 dev "+host, "-n C addr add "+n.prefix+"2/24 dev veth0")
	}
	if kind == farNetwork {
		for _, name := range []string{id + "r", id + "s", id + "t"} {
			if err := add(name); err != nil {
				return nil, err
			}
		}
		n.far = "192.0.2.10"
		lines = append(lines, farLines...)
	}
	for _, line := range lines {
		args := strings.Fields(line)
		for i, a := range args {
			switch a {
			case "C":
				args[i] = n.cpe
			case "R", "S", "T":
				args[i] = id + strings.ToLower(a)
			case "FORWARD":
				args[i] = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/icmp_ratemask"
			}
		}
		if err := ip(args...); err != nil {
			return nil, notShown("this machine makes no such network: %v", err)
		}
	}
	return n, nil
}

// farLines join C, the routers R and S, and the host T.
var farLines = []string{
	"-n C link add veth1 type veth peer name veth0 netns R", "-n R link add veth1 type veth peer name veth0 netns S", "-n S link add veth1 type veth peer name veth0 netns T",
	"-n C addr add 192.0.2.1/30 dev veth1", "-n R addr add 192.0.2.2/30 dev veth0", "-n R addr add 192.0.2.5/30 dev veth1",
	"-n S addr add 192.0.2.6/30 dev veth0", "-n S addr add 192.0.2.9/30 dev veth1", "-n T addr add 192.0.2.10/30 dev veth0",
	"-n C link set veth1 up", "-n R link set veth0 up", "-n R link set veth1 up", "-n S link set veth0 up", "-n S link set veth1 up", "-n T link set veth0 up",
	"-n C route add 192.0.2.0/24 via 192.0.2.2", "-n R route add 192.0.2.8/30 via 192.0.2.6", "-n S route add 192.0.2.0/30 via 192.0.2.5", "-n T route add default via 192.0.2.9",
	"netns exec R sh -c FORWARD", "netns exec S sh -c FORWARD",
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// move gives the CPE another address on the link.
func (n *network) move() (address string, err error) {
	address = n.prefix + "77"
	return address, errors.Join(ip("-n", n.cpe, "addr", "del", n.prefix+"2/24", "dev", "veth0"), ip("-n", n.cpe, "addr", "add", address+"/24", "dev", "veth0"))
}

func (n *network) close() error {
	var errs []error
	for _, name := range n.spaces { // which takes the links with it
		errs = append(errs, ip("netns", "del", name))
	}
	return errors.Join(errs...)
}

// ours is the driver of this repository's agent, with which the surroundings can be changed while it runs.
func (b *bench) ours() (*agentDriver, error) {
	d, ok := b.driver.(*agentDriver)
	if !ok {
		return nil, notShown("needs %s", canLease)
	}
	return d, nil
}
