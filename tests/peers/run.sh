#!/bin/bash
# The vendor's published SDKs against the emulator. Installs them below target/peers (pip and npm), starts the emulator
# on the ports that they insist on, runs both scripts, and ends with one line that counts.
#
# Needs python3 with venv, node with npm, cargo. Port 443 needs root (or net.ipv4.ip_unprivileged_port_start=443):
# without it the Python service uses another port and the Node checks, whose service side cannot, are skipped aloud.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/peers
work=target/peers
mkdir -p "$work/node"

say() { printf '%s\n' "$*" >&2; }

install_python() {
    local stamp="$work/python.installed"
    cmp -s "$here/requirements.txt" "$stamp" && return
    say "peers: installing the Python SDKs into $work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$stamp"
}

install_node() {
    local stamp="$work/node.installed"
    cmp -s "$here/package.json" "$stamp" && return
    say "peers: installing the Node SDKs into $work/node"
    cp "$here/package.json" "$work/node/package.json"
    npm install --prefix "$work/node" --silent --no-audit --no-fund --no-package-lock --ignore-scripts >&2
    cp "$here/package.json" "$stamp"
}

# Whether an address and port can be listened on, by us and now.
free() {
    python3 - "$1" "$2" <<'PYTHON'
import socket, sys
with socket.socket() as listener:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((sys.argv[1], int(sys.argv[2])))
    except OSError:
        sys.exit(1)
PYTHON
}

# The first address on which both ports can be had, or at least that for devices. Something else may own them on the
# usual one; all of 127/8 is this machine.
choose_address() {
    for https_port in 443 0; do
        for address in 127.0.0.1 127.0.0.83; do
            host=$address
            [ "$address" = 127.0.0.1 ] && host=localhost
            if free "$address" 8883 && { [ "$https_port" = 0 ] || free "$address" "$https_port"; }; then
                say "peers: the emulator listens on $host"
                return
            fi
        done
    done
    say "peers: port 8883, which the SDKs insist on, is taken"
    exit 1
}

start_emulator() {
    cargo build --quiet -p hub-emulator
    exec {emulator}< <(exec target/debug/hub-emulator --bind "$address" --host "$host" --name "$host" \
        --mqtt-port 8883 --https-port "$https_port" --ca "$work/ca.pem" 2>&1)
    emulator_pid=$!
    trap 'kill "$emulator_pid" 2>/dev/null || true' EXIT
    local line
    while read -r line <&"$emulator"; do
        case $line in
            'service connection string: '*) service=${line#*: } ;;
            'service '*) address_of_service=${line##* } ;;
            ready) break ;;
        esac
    done
    if [ "${line:-}" != ready ]; then
        say "peers: the emulator did not start"
        exit 1
    fi
    # Its further lines, for whoever looks for the cause of a failure.
    cat <&"$emulator" >"$work/emulator.log" &
}

run_python() {
    SSL_CERT_FILE="$work/ca.pem" REQUESTS_CA_BUNDLE="$work/ca.pem" \
        timeout 90 "$work/venv/bin/python" "$here/service_and_device.py"
}

run_node() {
    NODE_EXTRA_CA_CERTS="$work/ca.pem" NODE_PATH="$work/node/node_modules" timeout 90 node "$here/tutorial.js"
}

install_python
install_node
choose_address
start_emulator
export EMULATOR="$address_of_service" DEVICE_HOST="$host" SERVICE="$service"
log="$work/checks.log"
: >"$log"
skipped=0
if [ "$https_port" = 443 ]; then
    run_python | tee -a "$log" || say "peers: the Python script ended early"
    run_node | tee -a "$log" || say "peers: the Node script ended early"
else
    # The Python service takes a port with the host name; the port is the emulator's choice.
    SERVICE="HostName=${EMULATOR#https://};${service#*;}" run_python | tee -a "$log" || say "peers: the Python script ended early"
    say "peers: port 443 cannot be had: the Node checks are SKIPPED"
    skipped=$(grep -c "^  async '" "$here/tutorial.js")
fi
passed=$(grep -c '^ok ' "$log" || true)
failed=$(grep -c '^FAILED ' "$log" || true)
# A script that ended early has checks that never spoke.
expected=$(($(grep -c '^@check' "$here/service_and_device.py") + $(grep -c "^  async '" "$here/tutorial.js") - skipped))
failed=$((failed + expected - passed - failed))
echo "peers: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
