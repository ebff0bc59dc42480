package mirror

import "banset/policy"

// reasons keeps the comments of elements that most bans share, so that thousands take no string each. The zero value is
// ready. One goroutine uses it.
type reasons map[reason]string

// reason is what most comments are made of.
type reason struct {
	policy   string
	failures int
}

// maxReasons bounds the comments that are kept: a million bans have a few dozen.
const maxReasons = 4096

// of is b.Reason(), for most bans without a new string.
func (rs *reasons) of(b *policy.Ban) string {
	if b.Policy == "" {
		return b.Reason()
	}
	key := reason{b.Policy, b.Failures}
	text, ok := (*rs)[key]
	if !ok {
		text = b.Reason()
		if *rs == nil {
			*rs = make(reasons)
		}
		if len(*rs) < maxReasons {
			(*rs)[key] = text
		}
	}
	return text
}
