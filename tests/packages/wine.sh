# A Windows of its own for a part, which runs what cross.sh has built for it. Sourced after cross.sh.

# Starts it; C: is $windows_drive then. `wine` comes before a Windows command, and ends with it.
start_wine() {
  say 'starting wine'
  mkdir -p "$scratch/run"
  prefix=("${inside[@]}" WINEPREFIX=/scratch/wine WINEDEBUG=-all "WINEDLLOVERRIDES=mscoree,mshtml="
    XDG_RUNTIME_DIR=/scratch/run)
  windows_drive=$scratch/wine/drive_c
  # wine's server outlives its programs for a while, and writes into the folder that goes.
  trap 'end_wine; rm -rf --one-file-system "$scratch"' EXIT
  "${prefix[@]}" wineboot --init >"$scratch/wineboot.log" 2>&1 || { cat "$scratch/wineboot.log" >&2; fail 'wine does not start'; }
  wine=("${prefix[@]}" wine)
}

end_wine() {
  "${prefix[@]}" wineserver --kill || true
  "${prefix[@]}" wineserver --wait || true
}

# The output of a Windows command, without its carriage returns.
windows() { "${wine[@]}" "$@" 2>"$scratch/windows.log" | tr -d '\r'; }

# Puts the folder $1 into the user's PATH, before anything is installed there.
user_path() { windows reg add 'HKCU\Environment' /v PATH /t REG_EXPAND_SZ /d "$1" /f >/dev/null; }
