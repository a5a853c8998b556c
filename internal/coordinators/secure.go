package coordinators

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Secure returns the options of a connection that is encrypted, if t is not nil, and whose calls show what token returns, if
// that is not nil. A token is not sent to another host without encryption, unless insecure says that this is meant.
func Secure(addresses string, t *tls.Config, token func() (string, error), insecure bool) ([]grpc.DialOption, error) {
	var options []grpc.DialOption
	if t != nil {
		options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(t)))
	}
	if token == nil {
		return options, nil
	}
	if t == nil && !insecure {
		list, err := Split(addresses)
		if err != nil {
			return nil, err
		}
		for _, address := range list {
			if !local(address) {
				return nil, fmt.Errorf("a token is not sent to %s without encryption, where others could read it: use TLS", address)
			}
		}
	}
	return append(options, grpc.WithPerRPCCredentials(bearer{token, t != nil})), nil
}

// local reports whether what is sent to an address stays on this host.
func local(address string) bool {
	if isTarget(address) {
		return len(address) > 5 && address[:5] == "unix:"
	}
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// bearer shows a token with each call.
type bearer struct {
	token     func() (string, error)
	encrypted bool
}

var errNoToken = errors.New("the token is empty")

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.token()
	if err == nil && token == "" {
		err = errNoToken
	}
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearer) RequireTransportSecurity() bool { return b.encrypted }
