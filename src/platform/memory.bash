# Takes all the memory that this container may have, with bash and coreutils, until the kernel kills the processes whose numbers are the
# arguments. They are made the ones that the kernel kills first, which a process may always offer of its own user: so it is they that die, and not whoever
# took the memory.
#
# Whoever takes memory takes less than any server has: in a container all may be nearly as much offered as a process can be, and then the largest is killed.
readonly each=$((8 << 20)) most=8192 within=45
# What bash itself says of those that are killed is of no use to anybody.
exec 3>&2 2>/dev/null
fail() { printf '%s\n' "$*" >&3; exit 1; }
command -v head tail sleep >/dev/null || fail 'one of head, tail and sleep is missing, with which bash takes memory'

declare -A was
# What took memory lets go of it, and who lives on is no more in danger than before.
clear_away() {
    local pid
    kill $(jobs -p)
    for pid in "${!was[@]}"; do printf %s "${was[$pid]}" >"/proc/$pid/oom_score_adj"; done
}
trap clear_away EXIT
for pid; do
    was[$pid]=$(<"/proc/$pid/oom_score_adj") && printf 1000 >"/proc/$pid/oom_score_adj" || fail "process $pid cannot be made the first to be killed"
done

alive() {
    local pid
    for pid; do [[ -e /proc/$pid ]] || return 1; done
}
# `tail` keeps what it was sent until it is told that no more comes. It is the job itself, so that it ends with it.
hold() { exec tail -c "$each" < <(head -c "$each" /dev/zero; sleep 60); }
taken=0
while alive "$@"; do
    ((SECONDS < within && taken < most)) || fail "the kernel killed nobody for $taken times $each bytes in $SECONDS s"
    hold >/dev/null 3>&- &
    ((taken += 1))
    # So that what was started has taken its part before more comes.
    ((taken % 16)) || sleep 0.1
done
exit 0
