# Which processes run, which are meant, and a signal to those: with what bash itself can do.
root=$1 wanted=$2 signal=$3 container=$4 revive=$5
# What is about to be stopped goes on by itself, whatever becomes of us. A node's systemd keeps the time there: what we start ends with us, where we are a pod.
# One timer for a process: a new one takes the place of the old one, and what is let go on needs none.
revive_later() {
    local unit=comeback-revive-$1
    [[ -z $container || ! ( -n $revive || $signal == SIGCONT ) ]] || systemctl stop "$unit.timer" 2>/dev/null
    if [[ -z $revive ]]; then return 0; fi
    if [[ -n $container ]]; then
        systemd-run --quiet --collect --unit="$unit" --on-active="$revive" --timer-property=AccuracySec=100ms \
            /bin/bash -c "kill -s CONT $1" >/dev/null 2>&1
    else
        # Closed in it, and not for it: else the shell keeps copies open, and whoever reads what we say waits for it.
        ( exec </dev/null >/dev/null 2>&1; sleep "$revive"; kill -s CONT "$1" ) &
    fi
}
declare -A parent name state_of place
for folder in "$root"/[0-9]*; do
    pid=${folder##*/}
    [[ $pid == "$$" || ! -r $folder/status ]] && continue
    of= state= inner=
    while read -r key value rest; do
        case $key in
            PPid:) of=$value ;;
            State:) state=$value ;;
            # The number of the process in its innermost namespace: 1 is the first of a container, from wherever it is seen.
            NSpid:) inner=${rest##*[[:space:]]} inner=${inner:-$value} ;;
        esac
    done <"$folder/status"
    [[ -z $of || $state == [ZXx] ]] && continue
    if [[ -n $container ]]; then
        inside=
        while IFS= read -r line; do
            [[ $line == *"$container"* ]] && inside=yes
        done <"$folder/cgroup"
        [[ -z $inside ]] && continue
    fi
    IFS= read -r comm <"$folder/comm" || continue
    parent[$pid]=$of name[$pid]=$comm state_of[$pid]=$state place[$pid]=$inner
done 2>/dev/null
for pid in "${!name[@]}"; do
    role=
    if [[ ${name[$pid]} == sqlservr ]]; then
        role=watchdog
        [[ ${name[${parent[$pid]}]-} == sqlservr ]] && role=engine
    fi
    [[ ${place[$pid]} == 1 && $wanted == @first ]] && role=@first
    done_to=other
    if [[ ${name[$pid]} == "$wanted" || $role == "$wanted" ]]; then
        done_to=meant
        # The first process of a container drops what it gets from inside; on the node, which has a container named, it is another.
        if [[ $signal != list && ( $pid != 1 || -n $container ) ]] && revive_later "$pid" && kill -s "$signal" "$pid" 2>/dev/null; then
            done_to=signalled
        fi
    fi
    printf '%s %s %s %s %s\n' "$pid" "${parent[$pid]}" "$done_to" "${state_of[$pid]}" "${name[$pid]}"
done
