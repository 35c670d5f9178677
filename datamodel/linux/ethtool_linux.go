package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolCmd is struct ethtool_cmd of the kernel's stable interface (linux/ethtool.h).
type ethtoolCmd struct {
	cmd, supported, advertising uint32
	speed                       uint16
	duplex, port, phy, xcvr     uint8
	autoneg, mdio               uint8
	maxtxpkt, maxrxpkt          uint32
	speedHi                     uint16
	_                           [2]uint8
	lpAdvertising               uint32
	_                           [2]uint32
}

// ifreqData is struct ifreq with a pointer in its union.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// kernelLink asks a driver by SIOCETHTOOL, which needs no privilege for reading. Virtual interfaces have no answer.
func kernelLink(name string) (linkSettings, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return linkSettings{}, err
	}
	defer unix.Close(s)
	c := &ethtoolCmd{cmd: unix.ETHTOOL_GSET}
	r := &ifreqData{data: unsafe.Pointer(c)}
	copy(r.name[:len(r.name)-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(r))); errno != 0 {
		return linkSettings{}, errno
	}
	l := linkSettings{duplex: "Auto", mbit: -1}
	if c.autoneg == 0 {
		switch c.duplex {
		case 0:
			l.duplex = "Half"
		case 1:
			l.duplex = "Full"
		}
		if mbit := int32(uint32(c.speedHi)<<16 | uint32(c.speed)); mbit > 0 { // -1: the driver does not know
			l.mbit = mbit
		}
	}
	return l, nil
}
