# Takes all the memory that this container may have, with bash and coreutils, until the kernel kills the processes whose numbers are the
# arguments. They are made the ones that the kernel kills first, which a process may always offer of its own user: so it is they that die, and not whoever
# took the memory.
readonly each=$((32 << 20)) most=4096
for pid; do
    printf 1000 >"/proc/$pid/oom_score_adj" || exit 1
done
alive() {
    local pid
    for pid; do [[ -e /proc/$pid ]] || return 1; done
}
# `tail` keeps what it was sent, until it is told that no more comes.
hold() { { head -c "$each" /dev/zero; sleep 60; } | tail -c "$each"; }
taken=0
while alive "$@"; do
    if ((taken++ == most)); then
        sleep 10
        alive "$@" || break
        printf '%s processes of %s bytes each were started, and the kernel killed nobody\n' "$most" "$each" >&2
        exit 1
    fi
    hold </dev/null >/dev/null 2>&1 &
    # So that what was started has taken its part before more comes.
    ((taken % 8)) || sleep 0.1
done
kill $(jobs -p) 2>/dev/null
exit 0
