#!/usr/bin/env bash
# A Slurm cluster of one node on this machine, all of whose state is in a folder; run as root:
#   tests/slurm/cluster.sh start DIR && export SLURM_CONF=DIR/slurm.conf
#   tests/slurm/cluster.sh stop DIR
# It needs munged, slurmctld and slurmd: apt-get install slurm-wlm munge
set -euo pipefail
[[ $# == 2 && $1 =~ ^(start|stop)$ ]] || { echo "usage: $0 start|stop DIR" >&2; exit 1; }
[[ $EUID == 0 ]] || { echo "a Slurm to test with is started by root" >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd; do
    command -v $program >/dev/null ||
        { echo "no $program here; a Slurm to test with is had by: apt-get install slurm-wlm munge" >&2; exit 1; }
done

stop() {
    SLURM_CONF=$dir/slurm.conf scancel --full --signal=KILL --user=root 2>/dev/null || true
    for daemon in slurmd slurmctld munged; do
        [[ -f $dir/$daemon.pid ]] || continue
        pid=$(cat "$dir/$daemon.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in {1..50}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() {
    if [[ ! -f $dir/munge.key ]]; then
        (umask 077 && head -c 1024 /dev/urandom >"$dir/munge.key")
    fi
    munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
        --log-file="$dir/munged.log" --seed-file="$dir/munge.seed" 2>"$dir/munged.err" ||
        { cat "$dir/munged.err" >&2; exit 1; }
    cat >"$dir/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a requeued job may begin again once its credential has expired: 120 s by default
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=1
JobRequeue=1
KillWait=3
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=one NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=one Default=YES MaxTime=INFINITE State=UP
END
    mkdir -p "$dir/state" "$dir/spool"
    export SLURM_CONF=$dir/slurm.conf
    slurmctld -f "$SLURM_CONF"
    slurmd -f "$SLURM_CONF" -N one
    for _ in {1..150}; do
        [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]] && return
        sleep 0.2
    done
    tail -n 20 "$dir"/slurmctld.log "$dir"/slurmd.log >&2
    stop
    exit 1
}

mkdir -p "$2"
dir=$(cd "$2" && pwd)
"$1"
