# Hurts a node, mends it, or tells how it is, with what every node has: bash, systemd, iptables, tc. Runs on the node itself, as root.
#
#   begin SECONDS WHAT ...   hurts it; after so many seconds it mends itself, whatever became of us, and when the node starts what outlived its power
#   begin-later SECONDS ...  the same in a moment: for what would cut off whoever asks for it (`reboot` takes the time that it takes)
#   end - WHAT ...           mends it; what is not hurt is left as it is
#   look - WHAT ...          tells facts, a line each: name, tab, value
#
# WHAT is `kubelet`, `reboot`, `isolate-node`, `isolate-pod ADDRESS`, `delay-pod ADDRESS MS`, `lossy-pod ADDRESS PERCENT`, `reset-pod ADDRESS`,
# `full-volume FOLDER`, `slow-volume FOLDER MS`, `unattachable-volume FOLDER`, `manifest NAME`, or `netem` (look only: whether the kernel can delay).
set -u
verb=$1 seconds=$2 what=$3 first=${4-} second=${5-}
readonly manifests=/etc/kubernetes/manifests aside=/etc/kubernetes/comeback
# One timer for each hurt, so that ending one leaves the others alone.
id=$(printf '%s' "$what-$first" | tr -c 'a-zA-Z0-9-' '-')
unit=comeback-dead-man-$id
# Where the timer finds this script: systemd would expand what looks like a variable in an argument.
readonly script=/run/$unit.bash
# The same for what is to begin in a moment: when whoever asked for it has gone.
readonly later=comeback-later-$id
readonly later_script=/run/$later.bash in_a_moment=5
readonly brake=comeback-brake-$id.service
chain=$(printf 'COMEBACK-%s' "$(printf '%s' "$id" | cksum | cut -d' ' -f1)")

fail() { printf '%s\n' "$*" >&2; exit 1; }
# This script, whether it was given to bash as a text or is in a file.
itself() { if [[ -n ${BASH_EXECUTION_STRING-} ]]; then printf '%s' "$BASH_EXECUTION_STRING"; else cat "$0"; fi; }
rule() { iptables -w 5 "$@"; }

# What is on a disk outlives the node's power, and the timer does not: that is mended when the node starts, too.
readonly at_boot=$unit-at-boot.service kept=/etc/$unit.bash
outlives_power() { [[ $what == manifest || $what == *-volume ]]; }
mend_at_boot() {
    itself >"$kept" &&
        printf '[Unit]\nAfter=comeback-volumes.service\nBefore=kubelet.service\n[Service]\nType=oneshot\nExecStart=/bin/bash "%s" end - "%s" "%s" "%s"\n[Install]\nWantedBy=multi-user.target\n' \
            "$kept" "$what" "$first" "$second" >"/etc/systemd/system/$at_boot" &&
        systemctl --quiet enable "$at_boot"
}

# From now on the node mends itself, unless it is told to earlier.
dead_man() {
    systemctl stop "$unit.timer" 2>/dev/null
    systemctl reset-failed "$unit.service" "$unit.timer" 2>/dev/null
    itself >"$script" &&
        systemd-run --quiet --unit="$unit" --on-active="$seconds" --timer-property=AccuracySec=100ms /bin/bash "$script" end - "$what" "$first" "$second" ||
        fail 'the timer that would mend this node by itself could not be set'
    ! outlives_power || mend_at_boot || fail 'the unit that would mend this node when it starts could not be set'
}
no_dead_man() {
    # The timer's own run must not stop itself.
    systemctl stop "$unit.timer" 2>/dev/null
    systemctl reset-failed "$unit.service" 2>/dev/null
    rm -f "$script"
    if [[ -e /etc/systemd/system/$at_boot ]]; then
        systemctl --quiet disable "$at_boot"
        rm -f "/etc/systemd/system/$at_boot" "$kept"
        systemctl daemon-reload
    fi
}

begin_later() {
    # Later nobody is there who could be told.
    case $what in
        kubelet) systemctl is-active --quiet kubelet || fail 'no kubelet runs here that systemd could stop' ;;
        isolate-node)
            [[ -n $(uplink) ]] || fail 'the node has no default route, so nobody can tell which interface is its way out'
            rule -S INPUT >/dev/null || fail 'the rules of this node cannot be read'
            ;;
        reboot) ;;
        *) fail "$what begins at once" ;;
    esac
    not_later
    itself >"$later_script" &&
        systemd-run --quiet --collect --unit="$later" --on-active="$in_a_moment" --timer-property=AccuracySec=100ms \
            /bin/bash "$later_script" begin "$seconds" "$what" "$first" "$second" ||
        fail 'the timer that would begin it in a moment could not be set'
}
# What has not begun yet does not begin any more.
not_later() {
    systemctl stop "$later.timer" "$later.service" 2>/dev/null
    systemctl reset-failed "$later.timer" "$later.service" 2>/dev/null
    rm -f "$later_script"
}

# A chain of our own that the others jump to first.
jump() {
    rule -N "$chain" 2>/dev/null || rule -F "$chain"
    local from
    for from in "$@"; do
        rule -C "$from" -j "$chain" 2>/dev/null || rule -I "$from" 1 -j "$chain" || return 1
    done
}
no_jump() {
    local from
    for from in INPUT OUTPUT FORWARD; do
        while rule -D "$from" -j "$chain" 2>/dev/null; do :; done
    done
    rule -F "$chain" 2>/dev/null
    rule -X "$chain" 2>/dev/null
    ! rule -S "$chain" >/dev/null 2>&1
}
# How many packets our rules have taken.
taken() { rule -nvxL "$chain" 2>/dev/null | awk 'NR > 2 { sum += $1 } END { print sum + 0 }'; }
tell_taken() {
    local count rules=none
    count=$(taken)
    rule -S "$chain" >/dev/null 2>&1 && rules='set'
    printf 'rules\t%s\n' "$rules"
    if ((count > 0)); then printf 'packets %s\tsome\n' "$1"; else printf 'packets %s\tnone\n' "$1"; fi
}
uplink() { ip -o route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1; }
# The interface behind which a pod is.
interface_of() { ip -o route get "$1" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p'; }

# A volume is `data` in a file system of its own (src/kind/volumes.bash). Whatever else FOLDER may be, it is left alone: filling it would fill a
# machine's disk, and stopping it would stop a machine.
own_file_system() {
    home=${first%/data}
    [[ $first == /var/comeback/*/data && $(findmnt --noheadings --output SOURCE --mountpoint "$home") == /dev/loop* ]] ||
        fail "$first is not in a file system of its own on this node"
}
# What the file system keeps for its own needs at the end cannot be had.
readonly scrap=65536
# All that is left. What is only set aside takes nothing from the disk of the machine below.
fill() {
    local end=0 size
    size=$(left)
    : >"$1" || return 1
    while ((size >= 4096)); do
        if fallocate --offset "$end" --length "$size" "$1" 2>/dev/null; then ((end += size)) && size=$(left); else ((size /= 2)); fi
    done
    (($(left) < scrap))
}
left() { stat --file-system --format '%a %S' "$home" | { read -r blocks size && printf '%d' "$((blocks * size))"; }; }
# How long the file system stands still at a time, in seconds: a flush that comes at any moment then waits at least the asked time as often as not.
standstill() { awk "BEGIN { print $1 * 2.5 / 1000 }"; }

[[ $verb != end ]] || not_later
case $verb:$what in
    begin-later:*) begin_later ;;
    begin:kubelet) dead_man && systemctl stop kubelet ;;
    # What mends by itself is called off when it is mended, and not before.
    end:kubelet) systemctl start kubelet && no_dead_man ;;
    look:kubelet) printf 'kubelet\t%s\n' "$(systemctl is-active kubelet)" ;;

    # Nothing is stopped in good order; but what the disks have not got until then is written before. It is over when the node is back, and nobody here can end it.
    begin:reboot) systemctl reboot --force --force ;;
    end:reboot | look:reboot) ;;

    begin:isolate-node)
        link=$(uplink)
        [[ -n $link ]] || fail 'the node has no default route, so nobody can tell which interface is its way out'
        dead_man && jump INPUT OUTPUT FORWARD && rule -A "$chain" -i "$link" -j DROP && rule -A "$chain" -o "$link" -j DROP ||
            fail 'the rules could not be set'
        ;;
    begin:isolate-pod)
        dead_man && jump INPUT OUTPUT FORWARD && rule -A "$chain" -d "$first" -j DROP && rule -A "$chain" -s "$first" -j DROP ||
            fail 'the rules could not be set'
        ;;
    begin:lossy-pod)
        dead_man && jump FORWARD && rule -A "$chain" -d "$first" -m statistic --mode random --probability "$(awk "BEGIN { print $second / 100 }")" -j DROP ||
            fail 'the rules could not be set'
        ;;
    begin:reset-pod)
        dead_man && jump FORWARD && rule -A "$chain" -p tcp -d "$first" -j REJECT --reject-with tcp-reset || fail 'the rules could not be set'
        ;;
    end:isolate-node | end:isolate-pod | end:lossy-pod | end:reset-pod)
        no_jump || fail "the rules of chain $chain are still there"
        no_dead_man
        ;;
    look:isolate-node | look:isolate-pod) tell_taken dropped ;;
    look:lossy-pod) tell_taken lost ;;
    look:reset-pod) tell_taken 'answered with a reset' ;;

    begin:delay-pod)
        link=$(interface_of "$first")
        [[ -n $link && $link != "$(uplink)" ]] || fail "no interface of a pod leads to $first"
        dead_man && tc qdisc replace dev "$link" root netem delay "${second}ms" || fail 'the delay could not be set'
        ;;
    end:delay-pod)
        link=$(interface_of "$first")
        # The pod has gone, and its interface with it.
        if [[ -n $link && $link != "$(uplink)" ]] && tc qdisc show dev "$link" | grep -q netem; then
            tc qdisc del dev "$link" root || fail "the delay of $link is still there"
        fi
        no_dead_man
        ;;
    look:delay-pod)
        link=$(interface_of "$first")
        if [[ -n $link ]] && tc qdisc show dev "$link" | grep -q netem; then printf 'delay\tset\n'; else printf 'delay\tnone\n'; fi
        ;;
    look:netem)
        # In a network of its own, which goes with the command.
        if unshare --net tc qdisc add dev lo root netem delay 1ms 2>/dev/null; then printf 'netem\tyes\n'; else printf 'netem\tno\n'; fi
        ;;

    begin:full-volume)
        own_file_system
        dead_man && fill "$home/.comeback-filler" || fail "$home could not be filled"
        ;;
    end:full-volume)
        own_file_system
        rm -f "$home/.comeback-filler" || fail "what fills $home is still there"
        no_dead_man
        ;;
    look:full-volume)
        own_file_system
        if [[ ! -e $home/.comeback-filler ]]; then value=none; elif (($(left) < scrap)); then value='all of it'; else value='a part of it'; fi
        printf 'what fills the volume\t%s\n' "$value"
        ;;

    begin:slow-volume)
        own_file_system
        systemctl is-active --quiet "$brake" && exit 0
        dead_man || exit 1
        printf 'while :; do fsfreeze --freeze %q; sleep %s; fsfreeze --unfreeze %q; sleep 0.001; done\n' \
            "$home" "$(standstill "$second")" "$home" >"$script.brake" &&
            systemd-run --quiet --unit="$brake" --property=ExecStopPost="-/usr/sbin/fsfreeze --unfreeze $home" /bin/bash "$script.brake" ||
            fail "the brake on $home could not be set"
        ;;
    end:slow-volume)
        own_file_system
        systemctl stop "$brake" 2>/dev/null
        systemctl reset-failed "$brake" 2>/dev/null
        systemctl is-active --quiet "$brake" && fail "the brake on $home is still set"
        # One that moves already says so, and is as it should be.
        fsfreeze --unfreeze "$home" 2>/dev/null
        rm -f "$script.brake"
        no_dead_man
        ;;
    look:slow-volume)
        own_file_system
        if systemctl is-active --quiet "$brake"; then printf 'brake on the volume\tset\n'; else printf 'brake on the volume\tnone\n'; fi
        ;;

    begin:unattachable-volume)
        own_file_system
        # Who has it keeps it: a mount follows the folder, not its name. A file in its place, because a runtime that starts a container anew would make
        # a folder that is missing.
        [[ -d $home/data.refused ]] || { dead_man && date +%s >"$home/.comeback-refused" && mv -T "$first" "$home/data.refused"; } ||
            fail "$first could not be put aside"
        [[ -e $first ]] || : >"$first" || fail "nothing could be put in the place of $first"
        ;;
    end:unattachable-volume)
        own_file_system
        [[ ! -f $first ]] || rm -f "$first"
        [[ ! -d $home/data.refused ]] || mv -T "$home/data.refused" "$first" || fail "$first could not be put back"
        [[ -d $first ]] || fail "$first is nowhere"
        rm -f "$home/.comeback-refused"
        no_dead_man
        ;;
    look:unattachable-volume)
        own_file_system
        if [[ -d $home/data.refused && ! -d $first ]]; then
            printf 'refusal to attach\tset\n'
            printf 'since\t%s\n' "$(<"$home/.comeback-refused")"
        else
            printf 'refusal to attach\tnone\n'
        fi
        ;;

    begin:manifest)
        mkdir -p "$aside"
        dead_man || exit 1
        [[ ! -e $manifests/$first.yaml ]] || mv "$manifests/$first.yaml" "$aside/$first.yaml" || fail "the manifest of $first could not be put aside"
        [[ -e $aside/$first.yaml ]] || fail "there is no manifest of $first on this node"
        ;;
    end:manifest)
        [[ ! -e $aside/$first.yaml ]] || mv "$aside/$first.yaml" "$manifests/$first.yaml" || fail "the manifest of $first could not be put back"
        [[ -e $manifests/$first.yaml ]] || fail "the manifest of $first is nowhere"
        no_dead_man
        ;;
    look:manifest) if pgrep -x "${first:0:15}" >/dev/null; then printf 'process of %s\truns\n' "$first"; else printf 'process of %s\tnone\n' "$first"; fi ;;

    *) fail "nobody knows what $verb $what is" ;;
esac
