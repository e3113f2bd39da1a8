#!/bin/bash
# The vendor's published SDKs against the emulator. Installs them below target/peers (pip and npm), runs every script
# against an emulator of its own on the ports that they insist on, and ends with one line that counts.
#
# Needs python3 with venv, node with npm, openssl, cargo. Port 443 needs root (or net.ipv4.ip_unprivileged_port_start=443):
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
        for address in 127.0.0.1 127.0.0.{81..89}; do
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

# Arguments are the emulator's own, besides those that all get.
start_emulator() {
    exec {emulator}< <(exec target/debug/hub-emulator --bind "$address" --host "$host" --name "$host" \
        --mqtt-port 8883 --https-port "$https_port" --ca "$work/ca.pem" "$@" 2>&1)
    emulator_pid=$!
    trap 'kill "$emulator_pid" 2>/dev/null || true' EXIT
    local line
    while read -r line <&"$emulator"; do
        case $line in
            'service connection string: '*) SERVICE=${line#*: } ;;
            'service '*) EMULATOR=${line##* } ;;
            ready) break ;;
        esac
    done
    if [ "${line:-}" != ready ]; then
        say "peers: the emulator did not start"
        exit 1
    fi
    # The Python service takes a port with the host name; without port 443 the port is the emulator's choice.
    [ "$https_port" = 443 ] || SERVICE="HostName=${EMULATOR#https://};${SERVICE#*;}"
    export EMULATOR SERVICE
    # Its further lines, for whoever looks for the cause of a failure.
    cat <&"$emulator" >>"$work/emulator.log" &
}

stop_emulator() {
    kill "$emulator_pid" 2>/dev/null || true
    while kill -0 "$emulator_pid" 2>/dev/null; do sleep 0.1; done
    exec {emulator}<&-
}

# Runs a script against an emulator of its own, for they count what is in the hub: NAME-OF-FILE [ARGUMENT-OF-EMULATOR...]
run() {
    local script=$here/$1 checks how
    case $1 in
        *.py)
            checks='^@check'
            how=(env SSL_CERT_FILE="$work/ca.pem" REQUESTS_CA_BUNDLE="$work/ca.pem" "$work/venv/bin/python")
            ;;
        *.js)
            checks="^  async '"
            how=(env NODE_EXTRA_CA_CERTS="$work/ca.pem" NODE_PATH="$work/node/node_modules" node)
            ;;
    esac
    checks=$(grep -c "$checks" "$script")
    if [[ $1 = *.js && $https_port != 443 ]]; then
        say "peers: port 443 cannot be had: the checks of $1 are SKIPPED"
        skipped=$((skipped + checks))
        return
    fi
    # A script that ends early has checks that never speak.
    expected=$((expected + checks))
    start_emulator "${@:2}"
    timeout 180 "${how[@]}" "$script" | tee -a "$log" || say "peers: $1 ended early"
    stop_emulator
}

# Certificates of devices: some of their own making, some of a common authority.
make_certificates() {
    local name into=$work/certificates
    local -a new=(openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    rm -rf "$into"
    mkdir "$into"
    "${new[@]}" -x509 -days 3650 -subj "/CN=peers root" -keyout "$into/root.key" -out "$into/root.pem" 2>>"$into/log"
    for name in {py,node}-{own,own-reg}; do
        "${new[@]}" -x509 -days 3650 -subj "/CN=$name" -keyout "$into/$name.key" -out "$into/$name.pem" 2>>"$into/log"
    done
    for name in {py,node}-{ca,ca-reg}; do
        "${new[@]}" -subj "/CN=$name" -keyout "$into/$name.key" -out "$into/$name.csr" 2>>"$into/log"
        openssl x509 -req -days 3650 -in "$into/$name.csr" -CA "$into/root.pem" -CAkey "$into/root.key" \
            -CAcreateserial -extfile <(echo basicConstraints=critical,CA:FALSE) -out "$into/$name.pem" 2>>"$into/log"
    done
}

# Runs a script that starts and ends the emulator itself, with a state that outlives it: NAME-OF-FILE
run_restarting() {
    local checks how command
    case $1 in
        *.py) checks='^@check' how=("$work/venv/bin/python") ;;
        *.js) checks="^  async '" how=(node) ;;
    esac
    checks=$(grep -c "$checks" "$here/$1")
    if [ "$https_port" != 443 ]; then
        say "peers: port 443, which WebSockets need, cannot be had: the checks of $1 are SKIPPED"
        skipped=$((skipped + checks))
        return
    fi
    expected=$((expected + checks))
    rm -rf "$work/state"
    # Once before: clients read the certificate of its authority when they start, and it is kept with the state.
    start_emulator --state "$work/state"
    stop_emulator
    command="target/debug/hub-emulator --bind $address --host $host --name $host --mqtt-port 8883"
    command+=" --https-port 443 --ca $work/ca.pem --state $work/state"
    COMMAND=$command HOST=$host CERTIFICATES=$work/certificates \
        SSL_CERT_FILE="$work/ca.pem" REQUESTS_CA_BUNDLE="$work/ca.pem" NODE_EXTRA_CA_CERTS="$work/ca.pem" \
        NODE_PATH="$work/node/node_modules" timeout 300 "${how[@]}" "$here/$1" 2>>"$work/emulator.log" |
        tee -a "$log" || say "peers: $1 ended early"
}

install_python
install_node
choose_address
cargo build --quiet --workspace --bins
export DEVICE_HOST="$host"
log="$work/checks.log"
: >"$log"
: >"$work/emulator.log"
skipped=0 expected=0
run service_and_device.py
run service.py
run tutorial.js
run service.js
make_certificates
run_restarting device.py
run_restarting device.js
# Real daemons behind the emulator. The tutorials' method has an address and nothing else.
run fleet.js fleet 6
printf '[trust]\nallow_undigested = true\n' >"$work/undigested.toml"
run fleet.py fleet 6 --config "$work/undigested.toml"
passed=$(grep -c '^ok ' "$log" || true)
failed=$(grep -c '^FAILED ' "$log" || true)
failed=$((failed + expected - passed - failed))
echo "peers: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
