package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxAnswer is how much of an answer is read, so that its connection can be used again, in bytes.
	maxAnswer = 16 << 10
	// idle is how long a connection is kept for the next event.
	idle = 30 * time.Second
)

// body is what is posted.
type body struct {
	Event    string `json:"event"`
	Addr     string `json:"addr"`
	Policy   string `json:"policy"`
	Failures int    `json:"failures"`
	At       string `json:"at"`
	End      string `json:"end"`
	Seconds  int64  `json:"seconds"`
}

// A poster posts events to one address.
type poster struct {
	url    string
	client *http.Client
}

func newPoster(url string) *poster {
	return &poster{url, &http.Client{
		// What the configuration names is what is asked, and nothing that it points to.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // nor what the environment names
			MaxConnsPerHost:        1,
			MaxIdleConns:           1,
			IdleConnTimeout:        idle,
			MaxResponseHeaderBytes: maxAnswer,
			ForceAttemptHTTP2:      true,
		},
	}}
}

func (p *poster) post(ctx context.Context, e Event, now time.Time) error {
	text, err := json.Marshal(body{
		Event: e.word(), Addr: host(e.Host), Policy: e.policyName(), Failures: e.Failures,
		At: time.Unix(e.At, 0).UTC().Format(time.RFC3339), End: e.end(), Seconds: e.seconds(now),
	})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(text))
	if err != nil {
		return withoutURL(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "banset")
	answer, err := p.client.Do(r)
	if err != nil {
		return withoutURL(err)
	}
	defer answer.Body.Close()
	// The answer's text tells nothing; reading it to its end, if that is near, keeps the connection.
	_, err = io.CopyN(io.Discard, answer.Body, maxAnswer)
	switch {
	case answer.StatusCode < 200 || answer.StatusCode > 299:
		return fmt.Errorf("the answer is %d", answer.StatusCode)
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// withoutURL takes the address out of an error: it may hold a password, and the log is no place for it.
func withoutURL(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
