#!/usr/bin/env bash
# A prefiller, a decoder and the router on this host, from one model, each engine of one rank.
#
#   bash examples/vllm/start.sh MODEL [options of `vllm serve` for both]
#
# Needs: vLLM and the package baton (`pip install ./connectors`) in the Python that `vllm` runs with,
# and build/baton-router. Ports, each overridden by the variable of its name: ROUTER 8000, PREFILL
# 8001, DECODE 8002, and the nodes' behind them (9001, 9101, 9002, 9102). Logs go to LOGS (a new
# folder by default). It prints the router's URL when all three answer; Ctrl-C ends what it started,
# and so does the end of any of them.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ $# -eq 0 ]; then
  echo "usage: bash examples/vllm/start.sh MODEL [options of vllm serve]   (MODEL: a folder, or a name that vLLM knows)" >&2
  exit 2
fi
model=$1
shift
: "${ROUTER:=8000}" "${PREFILL:=8001}" "${DECODE:=8002}" "${VLLM:=vllm}" "${BUILD:=build}"
: "${PREFILL_NODE:=9001}" "${PREFILL_NODE_HTTP:=9101}" "${DECODE_NODE:=9002}" "${DECODE_NODE_HTTP:=9102}"
: "${LOGS:=$(mktemp -d)}" "${CHANNEL:=auto}"
if [ ! -x "$BUILD/baton-router" ]; then
  echo "start: there is no $BUILD/baton-router: cmake --preset release && cmake --build --preset release --target baton-router baton-ctl" >&2
  exit 1
fi
for port in "$ROUTER" "$PREFILL" "$DECODE"; do
  if curl --silent --output /dev/null --max-time 2 "http://127.0.0.1:$port/"; then
    echo "start: something answers at 127.0.0.1:$port already" >&2
    exit 1
  fi
done
echo "start: this takes a minute or more; logs: $LOGS" >&2

pids=()
stop() {
  trap - EXIT INT TERM
  for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
  wait
}
trap stop EXIT
trap 'exit 0' INT TERM

# serve NAME ROLE PORT NODE NODE_HTTP [options]
serve() {
  local name=$1 role=$2 port=$3 node=$4 node_http=$5
  shift 5
  "$VLLM" serve "$model" --host 127.0.0.1 --port "$port" "$@" --kv-transfer-config "{
    \"kv_connector\": \"BatonConnector\", \"kv_connector_module_path\": \"baton.vllm\",
    \"kv_role\": \"$role\", \"kv_load_failure_policy\": \"recompute\",
    \"kv_connector_extra_config\": {\"node\": \"127.0.0.1:$node\",
      \"node_http\": \"127.0.0.1:$node_http\", \"channel\": \"$CHANNEL\"}}" \
    >"$LOGS/$name.log" 2>&1 &
  pids+=($!)
}

# answers NAME PID URL: waits until it does, or has ended
answers() {
  until curl --silent --fail --output /dev/null --max-time 2 "$3"; do
    if ! kill -0 "$2" 2>/dev/null; then
      echo "start: $1 has ended; errors in $LOGS/$1.log:" >&2
      grep -E "Error|error:" "$LOGS/$1.log" | head -n 10 >&2 || tail -n 20 "$LOGS/$1.log" >&2
      exit 1
    fi
    sleep 0.5
  done
}

# With two cores or more, each engine gets its own half where it computes on the CPU.
half=$(($(nproc) / 2))
if [ "$half" -ge 1 ] && [ -z "${VLLM_CPU_OMP_THREADS_BIND:-}" ]; then
  VLLM_CPU_OMP_THREADS_BIND="0-$((half - 1))" \
    serve prefiller kv_producer "$PREFILL" "$PREFILL_NODE" "$PREFILL_NODE_HTTP" "$@"
  VLLM_CPU_OMP_THREADS_BIND="$half-$((2 * half - 1))" \
    serve decoder kv_consumer "$DECODE" "$DECODE_NODE" "$DECODE_NODE_HTTP" "$@"
else
  serve prefiller kv_producer "$PREFILL" "$PREFILL_NODE" "$PREFILL_NODE_HTTP" "$@"
  serve decoder kv_consumer "$DECODE" "$DECODE_NODE" "$DECODE_NODE_HTTP" "$@"
fi
answers prefiller "${pids[0]}" "http://127.0.0.1:$PREFILL/health"
answers decoder "${pids[1]}" "http://127.0.0.1:$DECODE/health"
"$BUILD/baton-router" --listen "127.0.0.1:$ROUTER" --budget-ms 120000 \
  --prefill "http://127.0.0.1:$PREFILL=127.0.0.1:$PREFILL_NODE@127.0.0.1:$PREFILL_NODE_HTTP" \
  --decode "http://127.0.0.1:$DECODE=127.0.0.1:$DECODE_NODE@127.0.0.1:$DECODE_NODE_HTTP" \
  >"$LOGS/router.log" 2>&1 &
pids+=($!)
answers router "${pids[2]}" "http://127.0.0.1:$ROUTER/health"
echo "READY http://127.0.0.1:$ROUTER (logs: $LOGS)"
wait -n || true
names=(prefiller decoder router)
for i in 0 1 2; do
  kill -0 "${pids[$i]}" 2>/dev/null || echo "start: ${names[$i]} has ended (log: $LOGS/${names[$i]}.log)" >&2
done
exit 1
