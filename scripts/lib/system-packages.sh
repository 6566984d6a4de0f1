# Sourced by test.sh: real servers that the tests run against, where they can be installed.
# Where they cannot, the tests that need them are skipped, each with its name and the reason.

# command, or absolute path : Debian package
SYSTEM_PACKAGES="serf:serf ip:iproute2 etcd:etcd-server iptables:iptables go:golang-go
    /usr/share/gocode/src/github.com/hashicorp/memberlist:golang-github-hashicorp-memberlist-dev"

is_there() {
    case "$1" in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

ensure_system_packages() {
    local entry missing=()
    for entry in $SYSTEM_PACKAGES; do
        is_there "${entry%%:*}" || missing+=("${entry##*:}")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        say "Not installed: ${missing[*]} (needs apt and root); tests against them are skipped."
        return 0
    fi
    say "Installing from the system's packages: ${missing[*]} ..."
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}"; } >&2; then
        say "Could not install ${missing[*]}; tests against them are skipped."
    fi
}
