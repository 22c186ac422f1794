#!/usr/bin/env bash
# Metrics as operators use them: Debian's own Prometheus scrapes a node and a relay, promtool checks the
# text, the dashboard asks for nothing that is not there; health and audit.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DASHBOARD=$HERE/../../examples/deploy/grafana/peerup.json
NODE_METRICS=$(free_port)
HEALTH=$(free_port)
make_relay
cat >>"$RELAY_CONFIG" <<YAML
health:
  enabled: true
  listen_address: "127.0.0.1:$HEALTH"
telemetry:
  metrics:
    enabled: true
  audit:
    enabled: true
YAML
start_relay
for node in home laptop; do
  make_node $node
  admit $node
done
introduce home laptop
cat >>"$(config_of home)" <<YAML
telemetry:
  metrics:
    enabled: true
    listen_address: "localhost:$NODE_METRICS"
  audit:
    enabled: true
YAML
serve_load load
as home service add load "127.0.0.1:$LOAD_PORT" >/dev/null
start_daemon home
wait_reserved home

step "something to count"
start_proxy tunnel laptop proxy home load 0
check "a byte goes through" echoes "$PORT"
check "and back" echoes "$PORT"
make_node stranger
admit stranger
check "a stranger is turned away" eval '! as stranger ping "$ID_home" -c 1 >/dev/null 2>&1'
as home daemon status >/dev/null
as home daemon ping "$ID_stranger" -c 1 >/dev/null 2>&1 || true # which is not there

step "the text"
curl -sS "http://127.0.0.1:$NODE_METRICS/metrics" >"$WORK/node.prom"
curl -sS "http://127.0.0.1:$HEALTH/metrics" >"$WORK/relay.prom"
for who in node relay; do
  # The name of one family is the original's; all else must please.
  promtool check metrics <"$WORK/$who.prom" 2>&1 | grep -v '^peerup_interface_count non-histogram' >"$WORK/promtool" || true
  check "promtool likes the $who's" same "$(cat "$WORK/promtool")" ""
done
value() { awk -v n="$2" 'index($0, n) == 1 {print $NF}' "$WORK/$1.prom"; }
check "connections are counted" same "$(value node 'peerup_proxy_connections_total{service="load"}')" 2
check "bytes once: three came" same "$(value node 'peerup_proxy_bytes_total{direction="rx",service="load"}')" 4
check "decisions" test "$(value node 'peerup_auth_decisions_total{decision="allow"}')" -ge 1
check "denials" test "$(value node 'peerup_auth_decisions_total{decision="deny"}')" -ge 1
check "requests of the API" test "$(value node 'peerup_daemon_requests_total{method="GET",path="/v1/status",status="200"}')" -ge 1
check "the process" test "$(value node process_open_fds)" -gt 5
check "the relay, too" test "$(value relay 'peerup_auth_decisions_total{decision="allow"}')" -ge 2
check "health" grep -qE '^\{"connected_peers":[0-9]+,"status":"ok","uptime_seconds":[0-9]+\}$' \
  <(curl -sS "http://127.0.0.1:$HEALTH/healthz")
check "nothing else is served" same 404 "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$NODE_METRICS/")"
check "a node has no healthz" same 404 "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$NODE_METRICS/healthz")"

step "the audit log"
check "who was turned away" grep -qE '"msg":"auth_decision","audit":\{"peer":"[^"]{19}","direction":"inbound","result":"deny"' "$WORK/home.log"
check "who asked the API" grep -q '"msg":"daemon_api_access","audit":{"method":"GET","path":"/v1/status","status":200}' "$WORK/home.log"
check "the relay's" grep -q '"msg":"auth_decision"' "$WORK/relay.log"

step "Prometheus itself"
PROMETHEUS=$(free_port)
cat >"$WORK/prometheus.yml" <<YAML
global: {scrape_interval: 1s}
scrape_configs:
  - {job_name: node, static_configs: [{targets: ["127.0.0.1:$NODE_METRICS"]}]}
  - {job_name: relay, static_configs: [{targets: ["127.0.0.1:$HEALTH"]}]}
YAML
start prometheus prometheus --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/tsdb" \
  --web.listen-address="127.0.0.1:$PROMETHEUS"
ask() { curl -sS -G --data-urlencode "query=$1" "http://127.0.0.1:$PROMETHEUS/api/v1/query"; }
both_up() { [ "$(ask 'sum(up)' | grep -oE '"[0-9]+"\]' | tr -d '"]')" = 2 ]; }
wait_for 30 "it scrapes both" both_up
sleep 2

step "the dashboard"
python3 - "$DASHBOARD" "$PROMETHEUS" <<'PYTHON' || bad "each panel asks for what is there"
import json, re, sys, urllib.parse, urllib.request
board = json.load(open(sys.argv[1]))
panels = board["panels"]
rows = [p for p in panels if p["type"] == "row"]
assert len(rows) == 6 and len(panels) >= 29, (len(rows), len(panels))
names = json.load(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[2]}/api/v1/label/__name__/values"))["data"]
# Families that show up with their first sample, which does not come in this test.
later = {"peerup_network_change_total"}
for panel in panels:
    for target in panel.get("targets", []):
        query = target["expr"].replace("$__rate_interval", "1m")
        for name in re.findall(r"\b(?:peerup|process)_[a-z_]+", query):
            assert name in names or name in later, (panel["title"], name)
        answer = json.load(urllib.request.urlopen(
            f"http://127.0.0.1:{sys.argv[2]}/api/v1/query?" + urllib.parse.urlencode({"query": query})))
        assert answer["status"] == "success", (panel["title"], answer)
PYTHON
good "each panel asks for what is there"
