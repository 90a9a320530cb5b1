package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

func key(ctx context.Context, t terminal, args []string) error {
	what, args, err := subcommand("key", args, []string{"create", "list", "rotate", "revoke"})
	if err != nil {
		return err
	}
	f := flags(t, "key "+what, "[--url URL] [NAME or ID]")
	var scopes, expires *string
	if what == "create" {
		scopes = f.String("scopes", "chat:use,models:read,models:use,search:read", "what the key may do, separated by commas")
		expires = f.String("expires", "", "how long it is good for, as 720h; empty: until revoked")
	}
	c, rest, err := platform(f, args)
	if err != nil {
		return err
	}
	if what != "list" && len(rest) != 1 {
		return fmt.Errorf("%w: aran key %s takes one name or id", errUsage, what)
	}
	switch what {
	case "create":
		var d time.Duration
		if *expires != "" {
			if d, err = time.ParseDuration(*expires); err != nil || d < time.Second {
				return fmt.Errorf("%w: --expires %q: use a duration of a second or more, as 720h", errUsage, *expires)
			}
		}
		k, err := c.CreateKey(ctx, rest[0], strings.Split(*scopes, ","), d)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(t.err, "key %s (%s); it is shown only now\n", k.ID, strings.Join(k.Scopes, " "))
		_, err = fmt.Fprintln(t.out, k.Secret)
		return err
	case "rotate":
		k, err := c.RotateKey(ctx, rest[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.out, k.Secret)
		return err
	case "revoke":
		return c.RevokeKey(ctx, rest[0])
	default:
		keys, err := c.Keys(ctx)
		if err != nil {
			return err
		}
		for _, k := range keys {
			state := "active"
			if k.RevokedAt != "" {
				state = "revoked " + k.RevokedAt
			}
			_, _ = fmt.Fprintf(t.out, "%s  %-20s %s…  %s  %s\n", k.ID, k.Name, k.Prefix, state, strings.Join(k.Scopes, " "))
		}
		return nil
	}
}
