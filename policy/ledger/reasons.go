package ledger

import "strings"

// A reason is what bans have in common: the policy, or a person's note.
type reason struct{ policy, note string }

// reasons holds each reason once, as long as there are bans that have it. A record has its number.
type reasons struct {
	all  []shared
	free []uint32
	ids  map[reason]uint32
}

type shared struct {
	reason
	n int // bans
}

func newReasons() reasons { return reasons{ids: make(map[reason]uint32)} }

// add counts one ban more for a reason and returns its number.
func (rs *reasons) add(why reason) uint32 {
	id, ok := rs.ids[why]
	if !ok {
		// The texts may be pieces of something large.
		why = reason{strings.Clone(why.policy), strings.Clone(why.note)}
		if n := len(rs.free); n > 0 {
			id, rs.free = rs.free[n-1], rs.free[:n-1]
		} else {
			id = uint32(len(rs.all))
			rs.all = append(rs.all, shared{})
		}
		rs.all[id].reason = why
		rs.ids[why] = id
	}
	rs.all[id].n++
	return id
}

// drop counts one ban less.
func (rs *reasons) drop(id uint32) {
	s := &rs.all[id]
	if s.n--; s.n > 0 {
		return
	}
	delete(rs.ids, s.reason)
	*s = shared{}
	rs.free = append(rs.free, id)
}

func (rs *reasons) get(id uint32) reason { return rs.all[id].reason }
