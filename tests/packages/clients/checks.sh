# What tests/packages/parts/clients checks, where no network and no other process is.
source tests/packages/lib.sh
# Also where the words of a command go elsewhere.
exec 3>&2
set -o errtrace
trap 'say "line $LINENO ended with $?: $BASH_COMMAND" 2>&3' ERR
ip link set lo up
# Here nobody else sees it, and it is gone with the last process. `install` wants a folder that lasts, which the
# one of a build and the one for temporary files do not.
mount -t tmpfs none /srv
programs='/srv/our programs'
# Nobody is there to sign in.
export HOME=/srv/home BROWSER=true LC_ALL=C.UTF-8
mkdir -p "$programs" "$HOME/project" "$HOME/other" "$HOME/.gemini"
cp "$PACKAGES_BINARIES"/mcp-{bridge,calculator} "$programs"
# What the user had before.
cp "$PACKAGES_BINARIES/mcp-calculator" "$programs/mine"
PATH=$programs:$PATH
packages=$PWD/tests/packages/clients
# In a folder that it does not trust, Gemini CLI starts nothing. It asks people, and keeps what they say here.
echo "{\"$HOME/project\": \"TRUST_FOLDER\", \"$HOME/other\": \"TRUST_FOLDER\"}" >"$HOME/.gemini/trustedFolders.json"

# Its launcher for those who let packages run no scripts.
claude() { timeout 60 node "$packages/node_modules/@anthropic-ai/claude-code/cli-wrapper.cjs" "$@" </dev/null; }
codex() { timeout 60 "$packages/node_modules/.bin/codex" "$@" </dev/null; }
gemini() { timeout 60 "$packages/node_modules/.bin/gemini" "$@" </dev/null; }

# What a client says of its servers, `NAME: COMMAND ARG… - STATE` each.
claude-code_lists() { claude mcp list | sed -nE 's/^([a-z-]+: .*[^ ]) +- ([✔✘⏸!] )?/\1 - /p' | sed 's/ (HTTP) - / - /'; }
codex_lists() { timeout 60 python3 "$packages/codex.py" "$packages/node_modules/.bin/codex" </dev/null; }
gemini_lists() { gemini mcp list 2>&1 | sed -nE 's/^. ([a-z-]+: .*[^ ]) +\((stdio|http)\) - /\1 - /p'; }

clients=(claude-code codex gemini)
# Asks the client $1, which must say all that the other arguments say, and no more.
lists() {
  local client=$1 said expected
  shift
  said=$("${client}_lists" | sort)
  expected=$(printf '%s\n' "$@" | sort)
  [[ $said == "$expected" ]] || fail "$client does not list what it should:"$'\n'"$(diff <(echo "$expected") <(echo "$said") || true)"
}
everywhere() { local client; for client in "${clients[@]}"; do lists "$client" "$@"; done; }
# `install` or `uninstall` by the program $1 for every client; each must say what $2 says.
does() {
  local program=$1 effect=$2 client said
  shift 2
  for client in "${clients[@]}"; do
    said=$("$program" "$1" --client "$client" "${@:2}" 2>&1) || fail "$program $* for $client: $said"
    [[ $said == *"$effect"* ]] || fail "$program $* for $client does not say \`$effect\`: $said"
  done
}

cd "$HOME/project"
say 'installing beside an entry that is there'
claude mcp add --scope user mine -- "$programs/mine" >/dev/null
codex mcp add mine -- "$programs/mine" >/dev/null
gemini mcp add --scope user mine "$programs/mine" >/dev/null 2>&1
open=http://127.0.0.1:8801/mcp closed=http://127.0.0.1:8802/mcp
mcp-bridge owner set-passphrase <<<'correct horse battery staple' >/dev/null
mcp-bridge serve --auth none --listen 127.0.0.1:8801 2>"$HOME/open.log" &
awaits_line "$HOME/open.log" 'listening on' $!
mcp-bridge serve --listen 127.0.0.1:8802 2>"$HOME/closed.log" &
awaits_line "$HOME/closed.log" 'listening on' $!
# Without a keyring.
connect=("$programs/mcp-bridge" connect "$closed" --token-store file)
account=("$programs/mcp-calculator" --account 'my own' --token-store file)
installs_all() {
  does mcp-calculator "$1" install
  does mcp-calculator "$1" install --name account "${account[@]:1}"
  does mcp-bridge "$1" install --name open --connect "$open"
  does mcp-bridge "$1" install --name closed --serve-command "${connect[@]}"
}
installs_all ' added to '
files=("$HOME"/.claude.json "$HOME"/.codex/config.toml "$HOME"/.gemini/settings.json)
before=$(sha256sum "${files[@]}")
installs_all ' is already there'
[[ $(sha256sum "${files[@]}") == "$before" ]] || fail 'installing twice changes a file'

say 'a server that wants a sign-in'
# The first attempt opens a browser, and waits for somebody; Claude Code less long than usual.
MCP_TIMEOUT=3000 claude mcp get closed >/dev/null
said=$(claude mcp get closed)
[[ $said == *'Failed to connect'*'run `mcp-bridge login '* ]] || fail "Claude Code does not say how to sign in: $said"
mcp-bridge login "$closed" --token-store file --no-browser 2>"$HOME/login.log" &
login=$!
awaits_line "$HOME/login.log" '/authorize?' "$login"
python3 "$packages/signs-in.py" "$(grep -o 'http://.*/authorize?.*' "$HOME/login.log")" 'correct horse battery staple'
waits_for "$login"
((code == 0)) || fail "nobody is signed in: $(cat "$HOME/login.log")"

say 'what is installed is started'
mine="mine: $programs/mine - Connected"
ours=("calculator: $programs/mcp-calculator - Connected" "open: $programs/mcp-bridge connect $open - Connected"
  "closed: ${connect[*]} - Connected" "account: ${account[*]} - Connected")
everywhere "$mine" "${ours[@]}"
# What a line cannot show: where an argument ends.
codex mcp get account --json | python3 -c '
import json, sys
transport = json.load(sys.stdin)["transport"]
sys.exit([transport["command"], *transport["args"]] != sys.argv[1:])' "${account[@]}" \
  || fail "Codex does not start exactly ${account[*]@Q}: $(codex mcp get account --json)"
said=$(claude mcp get calculator)
for line in 'Scope: User config' 'Status: ✔ Connected' 'Type: stdio' "Command: $programs/mcp-calculator"; do
  [[ $said == *"$line"* ]] || fail "Claude Code does not say \`$line\`: $said"
done

say 'the same server as an entry with its address'
claude mcp add --scope user --transport http address "$closed" >/dev/null
gemini mcp add --scope user --transport http address "$closed" >/dev/null 2>&1
# Its own command goes on to a sign-in at once.
printf '\n[mcp_servers.address]\nurl = "%s"\n' "$closed" >>"$HOME/.codex/config.toml"
lists claude-code "$mine" "${ours[@]}" "address: $closed - Needs authentication"
lists codex "$mine" "${ours[@]}" "address: $closed - Needs authentication"
lists gemini "$mine" "${ours[@]}" "address: $closed - Disconnected"
claude mcp remove --scope user address >/dev/null
codex mcp remove address >/dev/null
gemini mcp remove --scope user address >/dev/null 2>&1
# Now each client has written the file in its own way.
installs_all ' is already there'
everywhere "$mine" "${ours[@]}"

say 'the file of a project'
cd "$HOME/other"
does mcp-calculator ' added to ' install --project . --name project
lists gemini "$mine" "${ours[@]}" "project: $programs/mcp-calculator - Connected"
lists claude-code "$mine" "${ours[@]}" "project: $programs/mcp-calculator - Pending approval (run \`claude\` to approve)"
# As it is when somebody has said yes to its question.
printf '\n[projects."%s"]\ntrust_level = "trusted"\n' "$PWD" >>"$HOME/.codex/config.toml"
lists codex "$mine" "${ours[@]}" "project: $programs/mcp-calculator - Not started"
cd "$HOME/project"
everywhere "$mine" "${ours[@]}"

say 'uninstalling'
does mcp-calculator ' removed from ' uninstall
does mcp-calculator ' removed from ' uninstall --name account
does mcp-bridge ' removed from ' uninstall --connect "$open" --name open
does mcp-bridge ' removed from ' uninstall --name closed
everywhere "$mine"

# What a client has started ends with it.
for _ in {1..100}; do
  left=$(find /proc/[0-9]*/exe -lname "$programs/*" -printf '%h %l\n' 2>/dev/null | grep -vE "^/proc/($(jobs -p | paste -sd '|')) " || true)
  [[ -n $left ]] || break
  sleep 0.1
done
[[ -z $left ]] || fail "programs go on when their clients have ended: $left"
[[ $(jobs -r | wc -l) == 2 ]] || fail "a bridge has ended: $(cat "$HOME"/{open,closed}.log)"
