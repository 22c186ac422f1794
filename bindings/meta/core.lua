---@meta peerup.core
-- What C offers to Lua, as types. The module is made by bindings/core.c; a test compares this file
-- with the real table. Calls marked @async wait: they yield the running task and must be made
-- inside one (peerup.task). Expected failures return nil, err; err.code is a name of the error map
-- (engine/include/peerup/error.h), tostring(err) a sentence for a person. Misuse throws. Objects
-- have close, work with <close>, and return nil, err("closed") after it.

---@class peerup.err
---@field code string       name in the error map: "timeout", "relay_limit"
---@field message string    what tostring gives
---@field detail string     which peer, address or limit; may be ""

---@class peerup.core
local core = {}

---@return string version
function core.version() end
---@return string commit  "unknown" outside a checkout
function core.commit() end
---@return string date
function core.built() end
---Makes an error as C would: code from the map (or a name of Lua's own), detail a sentence part.
---@param code string
---@param detail string
---@return peerup.err
function core.error(code, detail) end

-- ---- tasks: bindings/task.c, used through lua/peerup/task.lua ----

core.task = {}
---Starts fn in a new task (a coroutine the bindings may suspend). It runs at once up to its first
---wait.
---@param fn fun(...)
---@return peerup.task
function core.task.spawn(fn, ...) end
---@async
---@param seconds number
---@return true?, peerup.err?  nil, err("canceled") when the task was cancelled
function core.task.sleep(seconds) end
---@return peerup.task? task  the running one, nil on the main thread
function core.task.current() end
---Tells fn(text) of failures of tasks that nobody joins, and of callbacks; nil: standard error.
---@param fn fun(text: string)?
function core.task.on_failure(fn) end
---Suspends until resume(...) is called with the token's results; for waiting on luv callbacks.
---@async
---@param start fun(resume: fun(...)): (fun()?)  may return a function that cancels the wait
---@return any ...
function core.task.await(start) end

---@class peerup.task
local task = {}
---Ends the pending wait of the task with nil, err("canceled"), or its next one when it is not in a
---wait. Harmless when it has ended.
function task:cancel() end
---Waits for the end: true and the results, or false, the error value and a traceback (text); nil,
---err("canceled") when the task that waits was cancelled.
---@async
---@return boolean? ok, any ...
function task:join() end
---Promises that somebody will join, perhaps later: a failure before is not reported at once.
---@return peerup.task self
function task:claim() end
---@return "running"|"waiting"|"done"|"failed"
function task:status() end

-- ---- identity and encodings ----

core.identity = {}
---@return string private key protobuf, 68 bytes
function core.identity.generate() end
---@param protobuf string
---@return string? peer_id text, peerup.err? err
function core.identity.peer_id(protobuf) end
---Loads a key file (mode 0600 is demanded).
---@param path string
---@return string? protobuf, peerup.err? err
function core.identity.load(path) end
---Writes a key file beside and renames; refuses to overwrite.
---@param path string
---@param protobuf string
---@return true?, peerup.err?
function core.identity.save(path, protobuf) end

core.peer_id = {}
---Parses any text form, returns canonical base58.
---@param text string
---@return string?, peerup.err?
function core.peer_id.parse(text) end
---@param text string
---@return string? multihash bytes, peerup.err?
function core.peer_id.to_bytes(text) end
---@param bytes string
---@return string? text, peerup.err?
function core.peer_id.from_bytes(bytes) end

core.multiaddr = {}
---Parses; returns canonical text.
---@param text string
---@return string?, peerup.err?
function core.multiaddr.parse(text) end
---Takes an address apart: kind "tcp", "circuit", "quic", "ws", "other"; text (canonical); host and
---port of the first hop; peer (final /p2p); relay and relay_addr of circuits; is_public,
---is_private, is_loopback; components {{name, value}}.
---@param text string
---@return table?, peerup.err?
function core.multiaddr.inspect(text) end

core.crypto = {}
---@param n integer
---@return string bytes
function core.crypto.random(n) end
---@return string private, string public  X25519
function core.crypto.x25519_keypair() end
---@param private string
---@param public string
---@return string? shared, peerup.err?  refuses all-zero results
function core.crypto.x25519(private, public) end
---@param private string
---@return string public
function core.crypto.x25519_public(private) end
---@return string key
function core.crypto.hkdf_sha256(ikm, salt, info, length) end
---@return string
function core.crypto.sha256(bytes) end
---@return string
function core.crypto.hmac_sha256(key, bytes) end
---XChaCha20-Poly1305.
---@return string ciphertext and tag
function core.crypto.xchacha_seal(key, nonce, plaintext) end
---@return string? plaintext, peerup.err?
function core.crypto.xchacha_open(key, nonce, ciphertext) end
---Constant-time comparison.
---@return boolean
function core.crypto.equal(a, b) end
---@return string upper-case RFC 4648, no padding
function core.crypto.base32_encode(bytes) end

---QR code of text for a terminal: lines of half blocks.
---@param text string
---@return string?, peerup.err?
function core.qr(text) end

-- ---- the service manager ----
core.system = {}
---Sends one datagram to its socket (sd_notify): a path, or a name that begins with @.
---@param socket string
---@param text string
---@return true?, peerup.err?
function core.system.notify(socket, text) end

-- ---- files that luv lacks ----
core.fs = {}
---Writes beside, syncs, renames; mode in octal as a number (tonumber("600", 8)).
---@return true?, peerup.err?
function core.fs.write_atomic(path, bytes, mode) end

-- ---- host: one engine ----

---@class peerup.host_options
---@field identity string           PrivateKey protobuf
---@field agent string?
---Answers at once: true allows; all else, an error or too many instructions too, denies. It may not
---wait nor call the engine. The second value is a reason, for the log.
---@field policy fun(question: peerup.question): boolean, string?
---Answers at once, as policy does, which of a peer's addresses are dialled, in which order and
---after which delay (delay_ms): a list of some of the candidates given, changed or not. An error,
---too many instructions or anything else denies the dial. The policy is asked about each of them
---afterwards.
---@field on_dial (fun(peer: string, candidates: peerup.dial_candidate[]): peerup.dial_candidate[])?
---Called from the loop, in order; may call the engine, may not wait.
---@field on_event fun(event: peerup.event)?
---May not call the engine.
---@field on_log fun(level: "debug"|"info"|"warn"|"error", part: string, line: string)?
---@field log_level ("debug"|"info"|"warn"|"error"|"off")?
---@field limits table?              fields of pu_limits
---@field congestion "cubic"|"bbr"?  of QUIC

---@class peerup.question   a fresh table for each call
---@field ask "accept"|"inbound"|"dial"|"stream"|"reservation"|"circuit"
---@field peer string?
---@field target string?
---@field protocol string?
---@field addr string
---@field relayed boolean

---@class peerup.dial_candidate
---@field id integer        which of them it is
---@field addr string
---@field transport "tcp"|"ws"|"wss"|"quic-v1"|"circuit"
---@field relayed boolean
---@field delay_ms integer  after the dial's begin

---@class peerup.event
---@field type "connected"|"disconnected"|"identified"|"addresses"|"reserved"|"reservation_lost"
---           |"denied"|"dropped"|"relay_circuit"
---@field conn peerup.conn_info?
---@field peer string?
---@field target string?
---@field code string?      error name, absent when all is well
---@field detail string?

---A snapshot, with the fields of pu_conn_info.
---@class peerup.conn_info
---@field id integer
---@field peer string
---@field outbound boolean
---@field relayed boolean
---@field limited boolean
---@field identified boolean
---@field addr string
---@field agent string
---@field transport string?
---@field security string?
---@field muxer string?
---@field opened_unix_ms integer
---@field rtt_us integer
---@field streams integer
---@field bytes_in integer
---@field bytes_out integer
---@field limit_duration_s integer
---@field limit_data_bytes integer

---@param options peerup.host_options
---@return peerup.host?, peerup.err?
function core.host(options) end

---@class peerup.host
local host = {}
---@return string
function host:peer_id() end
---@param addr string
---@return true?, peerup.err?
function host:listen(addr) end
---Gives listeners on /tls/ws a certificate chain and its key, from PEM files; again after a
---renewal.
---@param certificate_file string
---@param key_file string
---@return true?, peerup.err?
function host:web_certificate(certificate_file, key_file) end
---Gives them a self-signed one that is kept in a file, which is made when it is not there.
---@param file string
---@return true?, peerup.err?
function host:web_keep(file) end
---@return string[]
function host:addrs() end
---@param ttl_s number?  nil: for good
---@return true?, peerup.err?
function host:add_addr(peer, addr, ttl_s) end
---@return string[]
function host:known_addrs(peer) end
---@async
---@param options {timeout: number?, direct: boolean?, new: boolean?}?
---@return peerup.conn_info?, peerup.err?
function host:connect(peer, options) end
---@return integer closed
function host:disconnect(peer) end
---What dialling has learned of this network: QUIC or IPv6 to public addresses leads nowhere.
---@return {udp_dark: boolean, ip6_dark: boolean}
function host:dial_state() end
---Addresses that were dialled in vain lately, and for how long they are not tried yet.
---@return {peer: string, addr: string, failures: integer, rest_s: integer}[]
function host:resting_addrs() end
---@param id integer
---@return boolean closed
function host:close_conn(id) end
---Asks the policy again about all that stands.
---@return integer ended
function host:recheck() end
---@param on boolean
function host:protect(peer, on) end
---@return peerup.conn_info[]
function host:conns() end
---@return peerup.conn_info?
function host:best_conn(peer) end
---@return string[]
function host:peer_protocols(peer) end
---@class peerup.open_options
---@field timeout number?
---@field limited boolean?
---@field no_dial boolean?
---@field lazy boolean?
---@field conn integer?

---@async
---@param protocol string|string[]
---@param options peerup.open_options?
---@return peerup.stream?, peerup.err?
function host:open_stream(peer, protocol, options) end
---Serves a protocol: each stream runs fn in its own task; the stream is closed when fn returns.
---@param fn fun(stream: peerup.stream)|nil  nil stops serving
---@return true?, peerup.err?
function host:handle(protocol, fn) end
---@async
---@param options {timeout: number?}?
---@return number? seconds, peerup.err?
function host:ping(peer, options) end
---@param interval number? seconds
---@return true?, peerup.err?
function host:reserve(addr, interval) end
function host:unreserve(relay_peer) end
---@return table[]  {relay, active, expires (Unix s), limit_duration, limit_data, code?, detail?}
function host:reservations() end
---@param config table?  fields of pu_relay_config
---@return true?, peerup.err?
function host:relay_start(config) end
function host:relay_stop() end
---@return table
function host:relay_stats() end
---@class peerup.proxy_event
---@field opened boolean       false: it ended, or failed
---@field peer string?
---@field code string?
---@field detail string?
---@field bytes_in integer
---@field bytes_out integer
---@field duration_us integer

---The proxy lives until it or the host is closed, whether its object is kept or not.
---@param on_event fun(proxy: peerup.proxy, event: peerup.proxy_event)?
---@return peerup.proxy?, peerup.err?
function host:proxy_listen(listen, peer, protocol, on_event) end
---@return peerup.proxy?, peerup.err?
function host:proxy_expose(protocol, target, on_event) end
---@param level string
function host:set_log_level(level) end
---@return integer bytes
function host:memory() end
---What each limit allows, what is used of it (by the fullest peer, address ...), and what was
---refused since the host was made.
---@return {name: string, used: integer, limit: integer, refused: integer}[]
function host:limits() end
---Limits the inbound streams of one protocol, all together and for each peer; 0: the default.
---@param protocol string
---@param total integer
---@param per_peer integer
---@return true?, peerup.err?
function host:limit_protocol(protocol, total, per_peer) end
---Closes everything; waits until it is done when called in a task.
function host:close() end

---@class peerup.stream
local stream = {}
---Reads up to max bytes: nil, nil at end of stream.
---@async
---@param max integer?  default 65536
---@param timeout number?
---@return string?, peerup.err?
function stream:read(max, timeout) end
---Reads exactly n bytes (at most 1 MiB): nil, err("eof") when the stream ends before.
---@async
---@return string?, peerup.err?
function stream:read_exactly(n, timeout) end
---@async
---@return true?, peerup.err?
function stream:write(bytes, timeout) end
---@return true?, peerup.err?
function stream:close_write() end
---Carries two file descriptors of the process over the stream (0 and 1: standard input and output)
---until both sides have ended. The stream is closed then, and the descriptors' numbers are
---/dev/null. No byte enters Lua.
---@async
---@param input integer
---@param output integer
---@return true?, integer|peerup.err bytes_in, integer? bytes_out
function stream:pipe(input, output) end
function stream:reset(code) end
function stream:close() end
---@return string
function stream:peer() end
---@return string
function stream:protocol() end
---@return peerup.conn_info?
function stream:conn() end

---@class peerup.proxy
local proxy = {}
---@return string
function proxy:address() end
---@return table  {connections, active, bytes_in, bytes_out, failures}
function proxy:stats() end
function proxy:close() end

-- ---- sandbox: Lua states of their own for code that is not ours (bindings/sandbox_object.c) ----
core.sandbox = {}
---@class peerup.sandbox_options
---@field memory integer?        bytes, at most 4 MiB; 1 MiB
---@field instructions integer?  of one call; 200,000
---@field milliseconds integer?  processor time of one call, at most 10,000; 4
---@field host fun(...): ...     what `host(...)` inside calls; must not wait; values are copied
---Makes a state with base, string, table, math and utf8 as docs/adr/0011-sandbox.md lists them.
---@param options peerup.sandbox_options
---@return peerup.sandbox?, peerup.err?  code "limit": too little memory for a state
function core.sandbox.new(options) end
---@class peerup.sandbox
local sandbox = {}
---Runs a text chunk that returns a table of functions; its one argument is `host`, if with_host.
---@param source string
---@param name string         as messages show it
---@param with_host boolean?
---@return integer|false table, table<string, string>|peerup.err types  names and their types;
---  err.code is "limit" when a budget ran out, "script_failed" for what the chunk did wrong,
---  "again" from inside a call
function sandbox:load(source, name, with_host) end
---Calls a function of a loaded table with copies: nil, booleans, numbers, strings and tables of
---these, at most 8 deep, 2048 items, 8 results.
---@param table integer  what load returned
---@param name string
---@return boolean ok, any ...  true and copies of the results, or false and an error as of load
function sandbox:call(table, name, ...) end
---@return {memory: integer, memory_peak: integer, memory_limit: integer, calls: integer,
---  failures: integer, instructions: integer, longest_us: integer}?, peerup.err?
function sandbox:stats() end
---Frees the state. Throws from inside a call.
function sandbox:close() end

-- ---- http: libmicrohttpd on our loop, unix socket (bindings/http.c) ----
core.http = {}
---Serves HTTP on a unix socket (0600), or at a TCP address of numbers ("127.0.0.1:9091").
---handler runs in a task per request and returns status, headers table, body string. request:
---{method, path, query, headers, body, uid (unix), remote (TCP: an IP address)}; names of headers
---are in lower case. The server lives until it is closed.
---@param options {path: string?, address: string?, max_body: integer, max_conns: integer,
---  timeout: number}
---@param handler fun(request: table): integer, table, string|peerup.http_feed
---@return peerup.http_server?, peerup.err?
function core.http.serve(options, handler) end
---Makes a body that goes on: what is written is sent as it comes. A client that lets more than
---max_bytes wait is cut off.
---@param max_bytes integer
---@return peerup.http_feed
function core.http.feed(max_bytes) end
---@class peerup.http_feed
local http_feed = {}
---@param bytes string
---@return true?, peerup.err?  code "closed": the client has gone; "limit": it was cut off just now
function http_feed:write(bytes) end
---Ends the answer once what was written is sent.
function http_feed:close() end
---@class peerup.http_server
local http_server = {}
---@return string  where it is bound: "host:port", or the path
function http_server:address() end
function http_server:close() end

return core
