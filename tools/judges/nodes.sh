# Nodes for the judges; wants `comity` and `work` set. Whatever is in `pids` ends with the script.
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# Starts a node: its home, then options of `up`.
up() {
    local home=$work/$1
    shift
    "$comity" --home "$home" id new --mint-bits 0 > /dev/null 2>&1
    "$comity" --home "$home" up --mint-bits 0 --network judge --listen 127.0.0.1:0 "$@" > "$home.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 300); do
        "$comity" --home "$home" --json status > "$home.json" 2> /dev/null && return
        sleep 0.1
    done
    cat "$home.log"
    exit 1
}
# A member of what the node said of itself.
field() { python3 -c "import json, sys; print(json.load(open('$work/$1.json'))$(sed 's/\.\([a-z_]*\)/["\1"]/g' <<< "$2"))"; }
# The first line of a file, once it is there.
first_line() {
    for _ in $(seq 300); do
        if [ -s "$1" ]; then head -1 "$1"; return; fi
        sleep 0.1
    done
    exit 1
}
# Ends the script as skipped (77) where a program is missing.
wants() {
    local program
    for program in "$@"; do
        command -v "$program" > /dev/null || { echo "skipped: there is no $program here"; exit 77; }
    done
}
# Runs what installs something, its output in the file `$1`; ends the script as skipped where that fails.
installed_by() {
    local log=$1
    shift
    "$@" > "$log" 2>&1 || { tail -5 "$log"; echo "skipped: what judges cannot be installed here"; exit 77; }
}
