# What tests/packages/parts/systemd checks inside of a running system. In /checks: old and new
# packages, server.js, and cert.pem with key.pem. The last line of the log is its outcome.
set -euo pipefail
cd /checks
export DEBIAN_FRONTEND=noninteractive

fail() { printf 'FAILED: %s\n' "$*"; journalctl --no-pager --lines 30 --unit mcp-bridge; exit 1; }
say() { printf '  %s\n' "$*"; }
settings=/etc/mcp-bridge/bridge.toml
drop_ins=/etc/systemd/system/mcp-bridge.service.d
secret=a-secret-that-nobody-may-see

# As lib.sh has it; what systemd writes for itself while it runs is left out.
inventory() {
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /checks -o -path /var/tmp \
    -o -path /var/lib/dpkg -o -path /var/cache -o -path /var/log/dpkg.log -o -path /var/log/journal \
    -o -path /var/lib/systemd -o -path /var/log/wtmp -o -path /var/log/btmp \) -prune -o -print | sort
}
property() { systemctl show --property "$1" --value mcp-bridge; }
# The answer to GET $1, head and body.
ask() {
  exec 3<>/dev/tcp/127.0.0.1/8808 || return
  printf '%s %s HTTP/1.1\r\nHost: 127.0.0.1:8808\r\nConnection: close\r\nContent-Length: 0\r\n\r\n' "${2:-GET}" "$1" >&3
  timeout 10 cat <&3
  exec 3>&-
}
# Waits until the command "$@" succeeds, for 20 seconds.
until_holds() {
  local try
  for ((try = 0; try < 100; try++)); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
  return 1
}
# Whether the answer to GET $1 has the status $2.
answers() { local answer; answer=$(ask "$1"); [[ ${answer%%$'\r'*} == "HTTP/1.1 $2 "* ]]; }
# Whether the service has written $1 since it was last started.
logged() { journalctl --no-pager _SYSTEMD_INVOCATION_ID="$(property InvocationID)" | grep -- "$1" >/dev/null; }
logged_ever() { journalctl --no-pager --unit mcp-bridge | grep -- "$1" >/dev/null; }
restart() { systemctl reset-failed mcp-bridge 2>/dev/null || true; systemctl restart mcp-bridge || fail "it does not start $*"; }

inventory >before
dpkg --install old.deb >dpkg.log 2>&1 || { cat dpkg.log; fail 'the older package cannot be installed'; }
[[ $(systemctl is-active mcp-bridge) == inactive ]] || fail 'the service was started without being asked for'

# First use: no setting, no secret.
systemctl enable --now mcp-bridge 2>/dev/null || fail 'it does not start as it is shipped'
until_holds answers /healthz 200 || fail 'it is not healthy'
until_holds answers /readyz 200 || fail 'it is not ready'
ask /.well-known/oauth-protected-resource/mcp | grep '"resource":"http://127.0.0.1:8808/mcp"' >/dev/null || fail 'no metadata'
ask /mcp POST | grep -i '^www-authenticate: Bearer resource_metadata=' >/dev/null || fail 'a stranger is not told where to sign in'
mcp-bridge-admin owner reset >passphrase || fail 'the owner gets no passphrase'
grep -q 'shown only now' passphrase || fail 'the owner is not shown a passphrase'
mcp-bridge-admin owner set-passphrase <<<'correct horse battery staple' >/dev/null || fail 'a passphrase from a pipe is not taken'
[[ $(mcp-bridge-admin users list | tail -1) == owner*passphrase ]] || fail 'the service has another state than its administrator'
# In a terminal it asks twice, and shows nothing of what is typed.
phrase='correct horse battery staple'
: >typed
{
  for prompt in 'New passphrase' 'Again' 'has a new'; do
    until_holds grep -q "$prompt" typed || break
    [[ $prompt == 'has a new' ]] || printf '%s\n' "$phrase"
  done
} | script --quiet --flush --return --command 'mcp-bridge-admin owner set-passphrase' /dev/null >>typed \
  || fail "a passphrase from a terminal is not taken: $(cat typed)"
! grep -q "$phrase" typed || fail 'a terminal shows the passphrase that is typed'
grep -q 'has a new passphrase' typed || fail "a passphrase from a terminal is not taken: $(cat typed)"
say 'used as it is shipped'

# What it may do.
pid=$(property MainPID)
has() { grep -Pq "^$1:\t$2$" "/proc/$pid/status" || fail "$1 is not $2: $(grep "^$1:" "/proc/$pid/status")"; }
has Uid '(6[1-9]\d{3})\t\1\t\1\t\1' # one of systemd's dynamic users
has CapEff 0+
has CapBnd 0+
has NoNewPrivs 1
has Seccomp 2
[[ $(stat -c %a /var/lib/private/mcp-bridge /var/lib/private/mcp-bridge/authserver.db | xargs) == '700 600' ]] || fail 'others can open the state'

# Upgraded while it runs; again it is the packaged unit that runs, with the same state.
dpkg --force-confold --install new.deb >dpkg.log 2>&1 || { cat dpkg.log; fail 'the package cannot be upgraded'; }
until_holds answers /readyz 200 || fail 'it does not run after an upgrade'
[[ $(property MainPID) != "$pid" ]] || fail 'an upgrade has left the old program running'
[[ $(mcp-bridge-admin users list | tail -1) == owner*passphrase ]] || fail 'an upgrade has lost the state'
say 'upgraded'

# An identity provider, and its secret.
cat >"$settings" <<'END'
issuer = "https://auth.example.com"
introspection_client_id = "bridge"
introspection_client_secret_file = "/run/credentials/mcp-bridge.service/introspection-client-secret"
audit_log = "/var/log/mcp-bridge/audit.jsonl"
END
systemctl restart mcp-bridge 2>/dev/null || true
until_holds systemctl is-failed mcp-bridge || fail 'it runs without its secret'
# Of a process that ends so soon the journal does not always know which start it belongs to.
until_holds logged_ever '`introspection_client_secret_file`: the file cannot be read' || fail 'it does not say which secret is missing'
[[ $(property ExecMainStatus) == 2 && $(property NRestarts) == 0 ]] || fail 'it is started again and again with wrong settings'
install -d -m 700 /etc/credstore
(umask 077; printf %s "$secret" >/etc/credstore/mcp-bridge.introspection-client-secret)
restart 'with its secret'
until_holds answers /healthz 200 || fail 'it is not healthy with its secret'
[[ -f /var/log/mcp-bridge/audit.jsonl ]] || fail 'there is no audit file'
mv /var/log/private/mcp-bridge/audit.jsonl{,.1}
systemctl reload mcp-bridge
until_holds test -f /var/log/mcp-bridge/audit.jsonl || fail 'a reload does not open the audit file again'
systemctl is-active --quiet mcp-bridge || fail 'a reload ends it'
said=$(journalctl --no-pager; systemctl show mcp-bridge; systemctl cat mcp-bridge; tr '\0' ' ' <"/proc/$(property MainPID)/environ")
[[ $said == *"$settings"* && $said != *"$secret"* ]] || fail 'the secret is in a log, a property or the environment'
say 'keeps its secret'

# A command that compiles while it runs: not as shipped, but with the drop-in of the documentation.
printf 'command = ["/usr/bin/node", "/srv/server.js"]\n' >"$settings"
cp server.js /srv/server.js
restart 'with a command'
until_holds answers /healthz 200 || fail 'it is not healthy with a command'
until_holds logged 'was killed by signal' || fail 'Node runs where memory cannot become code: is command.conf needed?'
answers /readyz 503 || fail 'it is ready without a command that runs'
install -D -m 644 /usr/share/doc/mcp-bridge/examples/command.conf "$drop_ins/command.conf"
systemctl daemon-reload
restart 'with the drop-in for commands'
until_holds answers /readyz 200 || fail 'Node does not run with the drop-in for commands'
say 'serves a command'

# HTTPS on its own port, with a key that only root can read.
cat >"$settings" <<'END'
listen = "127.0.0.1:443"
public_url = "https://mcp.example.com"
tls_cert = "/run/credentials/mcp-bridge.service/tls-cert"
tls_key = "/run/credentials/mcp-bridge.service/tls-key"
END
install -m 600 cert.pem /etc/credstore/mcp-bridge.tls-cert
install -m 600 key.pem /etc/credstore/mcp-bridge.tls-key
rm "$drop_ins/command.conf"
install -m 644 /usr/share/doc/mcp-bridge/examples/low-port.conf "$drop_ins/low-port.conf"
systemctl daemon-reload
restart 'on a low port'
until_holds bash -c 'exec 3<>/dev/tcp/127.0.0.1/443' || fail 'nothing listens on the low port'
systemctl is-active --quiet mcp-bridge || fail 'it ends on the low port'
say 'listens on a low port with TLS'

systemctl stop mcp-bridge
[[ $(property Result) == success && $(property ExecMainStatus) == 0 ]] || fail "it does not stop well: $(property Result)"

# Gone, while it runs and is enabled.
rm -r "$drop_ins"
systemctl daemon-reload
echo >"$settings"
restart 'once more'
dpkg --remove mcp-bridge >dpkg.log 2>&1 || { cat dpkg.log; fail 'it cannot be removed'; }
! pgrep -x mcp-bridge >/dev/null || fail 'a removal leaves it running'
[[ -s /var/lib/private/mcp-bridge/authserver.db ]] || fail 'a removal has removed the state'
dpkg --purge mcp-bridge >dpkg.log 2>&1 || { cat dpkg.log; fail 'it cannot be purged'; }
rm /srv/server.js
rmdir /etc/credstore || fail 'a purge leaves secrets behind'
# systemd's own, with nothing in it.
rmdir /var/cache/private 2>/dev/null || true
inventory >after
diff before after || fail 'a purge leaves something behind (>), or takes more than was put there (<)'
systemctl daemon-reload
[[ $(systemctl is-enabled mcp-bridge 2>/dev/null || true) == '' ]] || fail 'systemd still knows the service'
say 'removed and purged'

# The same from the other package manager, which has its own order of scripts. Its database knows
# nothing of this system, hence no dependencies; tests/packages/parts/rpm looks at those.
rpm_does() { rpm --dbpath /checks/rpmdb --nodeps "$@" >rpm.log 2>&1 || { cat rpm.log; fail "rpm $*"; }; }
rpm_does --install old.rpm
[[ $(systemctl is-active mcp-bridge) == inactive ]] || fail 'rpm has started the service without being asked for'
systemctl enable --now mcp-bridge 2>/dev/null || fail 'it does not start as rpm has installed it'
until_holds answers /readyz 200 || fail 'it is not ready as rpm has installed it'
pid=$(property MainPID)
rpm_does --upgrade new.rpm
until_holds answers /readyz 200 || fail 'it does not run after an upgrade with rpm'
[[ $(property MainPID) != "$pid" ]] || fail 'an upgrade with rpm has left the old program running'
[[ $(systemctl is-enabled mcp-bridge) == enabled ]] || fail 'an upgrade with rpm has disabled it'
rpm_does --erase mcp-bridge
! pgrep -x mcp-bridge >/dev/null || fail 'a removal with rpm leaves it running'
# rpm knows no purge: the state stays, and goes as the README says.
[[ -s /var/lib/private/mcp-bridge/authserver.db ]] || fail 'a removal with rpm has removed the state'
rm -r /var/lib/private/mcp-bridge /var/log/private/mcp-bridge /var/lib/mcp-bridge /var/log/mcp-bridge
# Folders that belong to the systems that rpm is at home in.
rmdir /usr/share/licenses /usr/share/zsh/site-functions
inventory >after
diff before after || fail 'a removal with rpm leaves something behind (>), or takes more than was put there (<)'
say 'removed with rpm'
echo 'ALL HELD'
