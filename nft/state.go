package nft

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// What the kernel holds, read one object at a time.

type tableState struct {
	found bool
	flags uint32
	owner uint32 // port of the socket that owns it
}

// orphan reports whether the table's owner has gone: anybody may change it, and the next owner takes it as it is.
func (t *tableState) orphan() bool { return t.flags&(nftTableOwner|nftTablePersist) == nftTablePersist }

type setState struct {
	found     bool
	flags     uint32
	keyType   uint32
	keyLen    uint32
	size      uint32
	gc        uint32
	timeout   uint64
	policy    uint32
	counter   bool // exactly one expression, a counter
	exprs     int
	count     uint32
	hasCount  bool // this kernel counts
	dataTyped bool // a map
}

type chainState struct {
	found    bool
	base     bool
	hook     uint32
	priority int32
	policy   uint32
	typ      string
}

type ruleState struct {
	form           string
	packets, bytes uint64
}

// get asks for one object and hands its message to read; false: it is not there.
func (k *Keeper) get(ctx context.Context, typ int, write func(*wire), read func(p []byte)) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	k.queryMu.Lock()
	defer k.queryMu.Unlock()
	w := &k.request
	w.reset()
	m := w.nft(typ, 0)
	write(w)
	w.end(m)
	found := false
	err := k.query.ask(ctx, w, false, func(h header, p []byte) error {
		found = true
		read(p)
		return nil
	})
	if isErrno(err, unix.ENOENT) {
		return false, nil
	}
	return found, err
}

// owned reports whether another program's socket owns our table.
func (k *Keeper) owned() bool {
	t, err := k.readTable(context.Background())
	return err == nil && t.flags&nftTableOwner != 0
}

func (k *Keeper) readTable(ctx context.Context) (tableState, error) {
	return k.readTableOf(ctx, &k.config)
}

func (k *Keeper) readTableOf(ctx context.Context, c *Config) (t tableState, err error) {
	t.found, err = k.get(ctx, unix.NFT_MSG_GETTABLE, func(w *wire) {
		w.str(unix.NFTA_TABLE_NAME, c.Table)
	}, func(p []byte) {
		t.flags = getBE32(attr(body(p), unix.NFTA_TABLE_FLAGS))
		t.owner = getBE32(attr(body(p), nftaTableOwner))
	})
	return t, err
}

func (k *Keeper) readSet(ctx context.Context, s Set) (t setState, err error) {
	t.found, err = k.get(ctx, unix.NFT_MSG_GETSET, func(w *wire) {
		w.str(unix.NFTA_SET_TABLE, k.config.Table)
		w.str(unix.NFTA_SET_NAME, s.String())
	}, func(p []byte) {
		for a, v := range attrs(body(p)) {
			switch a {
			case unix.NFTA_SET_FLAGS:
				t.flags = getBE32(v)
			case unix.NFTA_SET_KEY_TYPE:
				t.keyType = getBE32(v)
			case unix.NFTA_SET_KEY_LEN:
				t.keyLen = getBE32(v)
			case unix.NFTA_SET_DESC:
				t.size = getBE32(attr(v, unix.NFTA_SET_DESC_SIZE))
			case unix.NFTA_SET_GC_INTERVAL:
				t.gc = getBE32(v)
			case unix.NFTA_SET_TIMEOUT:
				t.timeout = getBE64(v)
			case unix.NFTA_SET_POLICY:
				t.policy = getBE32(v)
			case unix.NFTA_SET_DATA_TYPE:
				t.dataTyped = true
			case nftaSetExpr:
				t.exprs++
				_, _, t.counter = readCounter(v)
			case nftaSetExpressions:
				for _, e := range attrs(v) {
					t.exprs++
					_, _, t.counter = readCounter(e)
				}
			case nftaSetCount:
				t.count, t.hasCount = getBE32(v), true
			}
		}
	})
	return t, err
}

// differs says what is wrong with the set, or nothing. Comments are not looked at: they can't be changed.
func (t *setState) differs(c *Config, s Set) string {
	counters := map[bool]string{true: "a counter", false: "no counter"}
	switch {
	case !t.found:
		return "was missing"
	case t.keyType != s.keyType() || t.keyLen != uint32(s.keyLen()) || t.dataTyped:
		return "had other keys than addresses of its family"
	case t.flags&^uint32(unix.NFT_SET_EVAL|nftSetExprFlag) != s.flags():
		return fmt.Sprintf("had the flags %#x, not %#x", t.flags, s.flags())
	case t.size != c.SetSize(s):
		return fmt.Sprintf("had size %d, not %d", t.size, c.SetSize(s))
	case t.gc != gcInterval:
		return fmt.Sprintf("had a gc-interval of %d ms, not %d", t.gc, gcInterval)
	case t.timeout != 0:
		return fmt.Sprintf("had a default timeout of %v", duration(t.timeout))
	case t.exprs > 1 || t.exprs == 1 && !t.counter:
		return "had statements for each element that are not ours"
	case t.counter != c.Counters:
		return fmt.Sprintf("had %s for each element, not %s", counters[t.counter], counters[c.Counters])
	}
	return ""
}

// nftSetExprFlag is NFT_SET_EXPR of linux/netfilter/nf_tables.h: nft sets it for statements, and it changes nothing.
const nftSetExprFlag = 0x100

func (k *Keeper) readChain(ctx context.Context, name string) (t chainState, err error) {
	t.found, err = k.get(ctx, unix.NFT_MSG_GETCHAIN, func(w *wire) {
		w.str(unix.NFTA_CHAIN_TABLE, k.config.Table)
		w.str(unix.NFTA_CHAIN_NAME, name)
	}, func(p []byte) {
		for a, v := range attrs(body(p)) {
			switch a {
			case unix.NFTA_CHAIN_HOOK:
				t.base = true
				t.hook = getBE32(attr(v, unix.NFTA_HOOK_HOOKNUM))
				t.priority = int32(getBE32(attr(v, unix.NFTA_HOOK_PRIORITY)))
			case unix.NFTA_CHAIN_POLICY:
				t.policy = getBE32(v)
			case unix.NFTA_CHAIN_TYPE:
				t.typ = getString(v)
			}
		}
	})
	return t, err
}

// differs says what is wrong with the chain, and whether it has to be made anew for that.
func (t *chainState) differs(c *Config) (wrong string, anew bool) {
	switch {
	case !t.base:
		return "had no hook", true
	case t.typ != "filter":
		return fmt.Sprintf("had type %s, not filter", clean(t.typ)), true
	case t.hook != hookNumbers[c.Hook]:
		return fmt.Sprintf("had another hook than %s", c.Hook), true
	case int(t.priority) != c.Priority:
		return fmt.Sprintf("had priority %d, not %d", t.priority, c.Priority), true
	case t.policy != nfAccept:
		return "had policy drop, not accept", false
	}
	return "", false
}

func (k *Keeper) readRules(ctx context.Context, chain string) ([]ruleState, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.queryMu.Lock()
	defer k.queryMu.Unlock()
	var all []ruleState
	read := func(_ header, p []byte) error {
		var r ruleState
		p = body(p)
		exprs := attr(p, unix.NFTA_RULE_EXPRESSIONS)
		r.form = canonical(exprs, attr(p, unix.NFTA_RULE_USERDATA))
		for _, e := range attrs(exprs) {
			if n, b, ok := readCounter(e); ok {
				r.packets, r.bytes = r.packets+n, r.bytes+b
			}
		}
		all = append(all, r)
		return nil
	}
	w := &k.request
	w.reset()
	m := w.nft(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	w.str(unix.NFTA_RULE_TABLE, k.config.Table)
	w.str(unix.NFTA_RULE_CHAIN, chain)
	w.end(m)
	err := k.query.ask(ctx, w, true, read)
	if isErrno(err, unix.ENOENT) {
		return nil, nil
	}
	return all, err
}
