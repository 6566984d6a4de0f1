// A memberlist node for the conformance tests. It prints what it sees as JSON lines on standard
// output, and does what it reads as lines on standard input. All bytes are in base64.
//
// With the argument "lzw" it compresses lines instead, as memberlist does.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io/ioutil"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const longestLine = 64 << 20

var printing sync.Mutex

type fields map[string]interface{}

func say(kind string, what fields) {
	printing.Lock()
	defer printing.Unlock()
	what["kind"] = kind
	line, err := json.Marshal(what)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func encoded(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func decoded(text string) []byte {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		log.Fatalf("not base64: %s", err)
	}
	return b
}

func describe(n *memberlist.Node) fields {
	return fields{
		"name": n.Name,
		"addr": n.Addr.String(),
		"port": n.Port,
		"meta": encoded(n.Meta),
		"vsn":  []int{int(n.PMin), int(n.PMax), int(n.PCur), int(n.DMin), int(n.DMax), int(n.DCur)},
	}
}

// What memberlist calls back.
type listener struct {
	mutex sync.Mutex
	meta  []byte
	state []byte
}

func (*listener) NotifyJoin(n *memberlist.Node)   { say("join", describe(n)) }
func (*listener) NotifyLeave(n *memberlist.Node)  { say("leave", describe(n)) }
func (*listener) NotifyUpdate(n *memberlist.Node) { say("update", describe(n)) }

func (*listener) NotifyConflict(existing, other *memberlist.Node) {
	what := describe(other)
	what["existing"] = int(existing.Port)
	say("conflict", what)
}

func (l *listener) NodeMeta(limit int) []byte {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.meta
}

func (l *listener) NotifyMsg(b []byte) { say("message", fields{"data": encoded(b)}) }

func (l *listener) GetBroadcasts(overhead, limit int) [][]byte { return nil }

func (l *listener) LocalState(join bool) []byte { return l.state }

func (l *listener) MergeRemoteState(b []byte, join bool) {
	say("state", fields{"data": encoded(b), "join": join})
}

// The commands; each answers with a line of kind "done".
type node struct {
	list     *memberlist.Memberlist
	listener *listener
	keyring  *memberlist.Keyring
}

func (n *node) find(name string) (*memberlist.Node, error) {
	for _, member := range n.list.Members() {
		if member.Name == name {
			return member, nil
		}
	}
	return nil, fmt.Errorf("no member %s", name)
}

func (n *node) send(name, data string, reliable bool) error {
	member, err := n.find(name)
	if err != nil {
		return err
	}
	if reliable {
		return n.list.SendReliable(member, decoded(data))
	}
	return n.list.SendBestEffort(member, decoded(data))
}

func (n *node) do(words []string) error {
	switch {
	case words[0] == "join" && len(words) == 2:
		_, err := n.list.Join([]string{words[1]})
		return err
	case words[0] == "send" && len(words) == 3:
		return n.send(words[1], words[2], false)
	case words[0] == "reliable" && len(words) == 3:
		return n.send(words[1], words[2], true)
	case words[0] == "meta" && len(words) == 2:
		n.listener.mutex.Lock()
		n.listener.meta = decoded(words[1])
		n.listener.mutex.Unlock()
		return n.list.UpdateNode(5 * time.Second)
	case words[0] == "members":
		found := []interface{}{}
		for _, member := range n.list.Members() {
			found = append(found, describe(member))
		}
		say("members", fields{"members": found, "health": n.list.GetHealthScore()})
		return nil
	case words[0] == "key" && len(words) == 3 && n.keyring != nil:
		change := map[string]func([]byte) error{
			"add": n.keyring.AddKey, "use": n.keyring.UseKey, "remove": n.keyring.RemoveKey,
		}[words[1]]
		return change(decoded(words[2]))
	case words[0] == "leave":
		return n.list.Leave(5 * time.Second)
	}
	return fmt.Errorf("unknown command")
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "lzw" {
		compressLines()
		return
	}
	config := memberlist.DefaultLANConfig()
	l := &listener{}
	flag.StringVar(&config.Name, "name", "go", "node name")
	flag.StringVar(&config.BindAddr, "bind", "127.0.0.1", "address to listen on")
	flag.IntVar(&config.BindPort, "port", 7946, "port to listen on")
	flag.StringVar(&config.AdvertiseAddr, "advertise", "", "address to be reached at")
	flag.BoolVar(&config.EnableCompression, "compress", true, "compress messages")
	flag.DurationVar(&config.ProbeInterval, "probe-interval", config.ProbeInterval, "")
	flag.DurationVar(&config.ProbeTimeout, "probe-timeout", config.ProbeTimeout, "")
	flag.IntVar(&config.SuspicionMult, "suspicion", config.SuspicionMult, "multiplier")
	flag.DurationVar(&config.PushPullInterval, "push-pull", config.PushPullInterval, "interval")
	flag.IntVar(&config.IndirectChecks, "indirect", config.IndirectChecks, "others asked to probe")
	keyFile := flag.String("key-file", "", "file with the key")
	protocol := flag.Int("protocol", 2, "protocol version to speak")
	delegate := flag.Int("delegate", 0, "delegate version to speak; as Serf's from 2 on")
	meta := flag.String("meta", "", "metadata")
	state := flag.String("state", "", "user state of push/pulls")
	flag.Parse()

	if *meta != "" {
		l.meta = decoded(*meta)
	}
	l.state = decoded(*state)
	config.AdvertisePort = config.BindPort
	config.ProtocolVersion = uint8(*protocol)
	if *delegate > 0 {
		config.DelegateProtocolMin = 2
		config.DelegateProtocolMax = uint8(*delegate)
		config.DelegateProtocolVersion = uint8(*delegate)
	}
	config.Delegate, config.Events, config.Conflict = l, l, l
	config.Logger = log.New(os.Stderr, "", log.LstdFlags)
	n := &node{listener: l}
	if *keyFile != "" {
		text, err := ioutil.ReadFile(*keyFile)
		if err != nil {
			log.Fatal(err)
		}
		if n.keyring, err = memberlist.NewKeyring(nil, decoded(string(text))); err != nil {
			log.Fatal(err)
		}
		config.Keyring = n.keyring
	}
	var err error
	if n.list, err = memberlist.Create(config); err != nil {
		log.Fatal(err)
	}
	say("ready", describe(n.list.LocalNode()))

	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, longestLine)
	for input.Scan() {
		words := strings.SplitN(input.Text(), " ", 3)
		problem := ""
		if err := n.do(words); err != nil {
			problem = err.Error()
		}
		say("done", fields{"command": words[0], "error": problem})
	}
	if err := n.list.Shutdown(); err != nil {
		log.Fatal(err)
	}
}
