package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"twinspan/bridge/vendor"
	"twinspan/usp/uspmsg"
)

// provisional makes a Set one that is put back unless it is confirmed; within is "60s" or "60s@ID".
func (o *options) provisional(ctx context.Context, set *uspmsg.Set, within string) error {
	text, id, named := strings.Cut(within, "@")
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		return usageError{fmt.Sprintf("--confirm %q: want a time of at least 1s, perhaps with @ID", within)}
	}
	value := strconv.Itoa(int(d / time.Second))
	if named {
		value += "@" + id
	}
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	a, err := o.object(ctx)
	if err != nil {
		return err
	}
	defer a.done()
	set.UpdateObjs = append(set.UpdateObjs, &uspmsg.Set_UpdateObject{ObjPath: a.path, ParamSettings: []*uspmsg.Set_UpdateParamSetting{
		{Param: vendor.ConfirmParam, Value: value, Required: true}}})
	return nil
}

// cliConfirm confirms a provisional change: the connection of this call is younger than the change.
func cliConfirm(ctx context.Context, args []string, out io.Writer) error {
	o := newOptions("confirm")
	cancel := o.Bool("cancel", false, "put the change back instead")
	rest, err := o.parse(args, 0, "")
	if err != nil {
		return err
	}
	if len(rest) == 0 && !*cancel {
		return cliTables(ctx, "confirm", []string{"Confirmation."}, args, out, func(m map[string]string) string {
			return fmt.Sprintf("%s: revision %s of %s waits %s s: %s", m["ID"], m["Revision"], m["Writer"], m["Seconds"], m["Paths"])
		})
	}
	if len(rest) != 1 {
		return usageError{"one ID is needed"}
	}
	command := "ConfirmChange()"
	if *cancel {
		command = "CancelChange()"
	}
	res, err := o.run(ctx, command, map[string]string{"ID": rest[0]})
	return errors.Join(err, jsonIf(out, o.json && err == nil, res))
}
