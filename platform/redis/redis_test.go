package redis_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"aran/platform/fault"
	"aran/platform/redis"
	"aran/platform/redis/redistest"
)

// journal is a log that a test reads.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) count(s string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.buf.String(), s)
}

func open(t *testing.T, cfg redis.Config) (*redis.Client, *journal) {
	t.Helper()
	j := &journal{}
	c, err := redis.Open(cfg, slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	return c, j
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// roundTrip writes and reads.
func roundTrip(ctx context.Context, c *redis.Client, key string) error {
	return c.Do(ctx, func(ctx context.Context, r goredis.Cmdable) error {
		if err := r.Set(ctx, key, "v", time.Minute).Err(); err != nil {
			return err
		}
		v, err := r.Get(ctx, key).Result()
		if err == nil && v != "v" {
			return errors.New("another value came back")
		}
		return err
	})
}

func TestKeysOfServicesDoNotMeet(t *testing.T) {
	c, _ := open(t, config("redis://127.0.0.1:1"))
	if got := c.Key("gateway", "limit", "a"); got != "aran:gateway:limit:a" {
		t.Errorf("Key = %q", got)
	}
	seen := map[string][]string{}
	for _, parts := range [][]string{{"a", "b"}, {"a:b"}, {"a", "b", ""}, {"a", "", "b"}, {"a%3Ab"}, {"a", ":b"}, {"a:", "b"}, {"a%", "b"}} {
		k := c.Key(parts[0], parts[1:]...)
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q are both %q", parts, other, k)
		}
		seen[k] = parts
	}
}

func TestOpensWithoutRedisAndFindsItLater(t *testing.T) {
	s := redistest.Launch(t)
	s.Kill()
	c, j := open(t, config(s.URL()))
	for range 10 {
		err := roundTrip(t.Context(), c, "k")
		f := fault.From(err)
		if f == nil || f.Kind != fault.Unavailable || f.Code != redis.CodeAway || f.RetryAfter <= 0 {
			t.Fatalf("with Redis away: %v", err)
		}
	}
	if err := c.Ping(t.Context()); err == nil {
		t.Error("Ping of nothing is well")
	}
	if n := j.count("redis is away"); n != 1 {
		t.Errorf("its absence is logged %d times", n)
	}
	s.Restart()
	eventually(t, "back to normal", func() bool { return roundTrip(t.Context(), c, "k") == nil })
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if n := j.count("redis is back"); n != 1 {
		t.Errorf("its return is logged %d times", n)
	}
	if j.count(s.Password()) > 0 {
		t.Error("the log shows the password")
	}
}

func TestARedisThatHangsCostsLittle(t *testing.T) {
	s := redistest.Launch(t)
	c, _ := open(t, config(s.URL()))
	if err := roundTrip(t.Context(), c, "k"); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	defer s.Resume()
	start := time.Now()
	for range 3 {
		one := time.Now()
		if err := roundTrip(t.Context(), c, "k"); fault.KindOf(err) != fault.Unavailable {
			t.Fatalf("of a Redis that hangs: %v", err)
		}
		if d := time.Since(one); d > 2*time.Second {
			t.Errorf("one call took %s", d)
		}
	}
	opened := time.Now()
	for range 1000 {
		_ = roundTrip(t.Context(), c, "k")
	}
	if d := time.Since(opened); d > 3*time.Second {
		t.Errorf("1000 calls after it was known to hang took %s", d)
	}
	t.Logf("until it was known: %s", opened.Sub(start))
	s.Resume()
	eventually(t, "back to normal", func() bool { return roundTrip(t.Context(), c, "k") == nil })
}

func TestWhatRedisRefusesDoesNotOpenTheBreaker(t *testing.T) {
	c, _ := open(t, config(redistest.Start(t)))
	if err := roundTrip(t.Context(), c, "text"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		err := c.Do(t.Context(), func(ctx context.Context, r goredis.Cmdable) error { return r.LPush(ctx, "text", 1).Err() })
		if err == nil || fault.From(err) != nil || !goredis.HasErrorPrefix(err, "WRONGTYPE") {
			t.Fatalf("a wrong command: %v", err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 20 {
		err := c.Do(gone, func(ctx context.Context, r goredis.Cmdable) error {
			cancel()
			return r.BLPop(ctx, time.Second, "nothing").Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("a caller that left: %v", err)
		}
	}
	if err := roundTrip(t.Context(), c, "k"); err != nil {
		t.Errorf("after commands that Redis refused, and callers that left: %v", err)
	}
}

func TestAWrongPasswordIsAway(t *testing.T) {
	s := redistest.Launch(t)
	c, j := open(t, config("redis://:wrong@"+s.Addr()))
	for range 5 {
		if err := roundTrip(t.Context(), c, "k"); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%v", err)
		}
	}
	if j.count("redis is away") != 1 {
		t.Error("nothing is logged")
	}
}

// More callers than connections wait for one; nobody is refused, and Redis sees no more than the pool.
func TestThePoolIsBounded(t *testing.T) {
	s := redistest.Launch(t)
	cfg := config(s.URL())
	cfg.Pool = 4
	c, _ := open(t, cfg)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 20 {
				if err := roundTrip(t.Context(), c, "k"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	err := c.Do(t.Context(), func(ctx context.Context, r goredis.Cmdable) error {
		info, err := r.Info(ctx, "stats").Result()
		if err != nil {
			return err
		}
		// one of them was redistest's, to see that it answers
		for _, n := range []string{"1", "2", "3", "4", "5", "6"} {
			if strings.Contains(info, "total_connections_received:"+n+"\r\n") {
				return nil
			}
		}
		t.Errorf("more connections than the pool's 4: %.200s", info)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// authority makes a certificate for 127.0.0.1 that signs itself; it returns the files of certificate and key.
func authority(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLSIsVerified(t *testing.T) {
	cert, key := authority(t)
	stranger, _ := authority(t)
	s := redistest.Launch(t, "port 0", "tls-port %PORT%", "tls-cert-file "+cert, "tls-key-file "+key, "tls-ca-cert-file "+cert, "tls-auth-clients no")
	url := strings.Replace(s.URL(), "redis://", "rediss://", 1)
	for _, c := range []struct {
		name, ca, url string
		well          bool
	}{
		{"the authority that signed it", cert, url, true},
		{"another authority", stranger, url, false},
		{"the system's authorities", "", url, false},
		{"another name", cert, strings.Replace(url, "127.0.0.1", "localhost", 1), false},
	} {
		cfg := config(c.url)
		cfg.CA = c.ca
		client, _ := open(t, cfg)
		err := client.Ping(t.Context())
		if (err == nil) != c.well {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "x509") {
			t.Errorf("%s: it failed for another reason: %v", c.name, err)
		}
	}
}
