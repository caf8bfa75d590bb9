#!/usr/bin/env bash
# A whole Slurm on this machine's loopback: controller and two node daemons, for tests.
# Usage: slurm.sh start FOLDER | stop FOLDER. Needs root and Debian's slurm-wlm and munge; all files
# are in FOLDER, which is new, and `export SLURM_CONF=FOLDER/slurm.conf` makes sbatch use it.
set -euo pipefail

[ $# -eq 2 ] || { sed -n 's/^# Usage: //p' "$0" >&2; exit 2; }
command=$1 folder=$2
pids() { cat "$folder"/*.pid 2>/dev/null || true; }

start() {
    local daemon node
    [ "$(id -u)" -eq 0 ] || { echo "slurm.sh: needs root" >&2; exit 2; }
    for daemon in munged slurmctld slurmd; do
        command -v "$daemon" > /dev/null || {
            echo "slurm.sh: no $daemon: apt-get install slurm-wlm munge" >&2
            exit 2
        }
    done
    mkdir "$folder"
    folder=$(cd "$folder" && pwd)
    mkdir "$folder/state"
    chmod 755 "$folder"
    (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
    read -r controller_port first_port second_port < <("${PYTHON:-python3}" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in held))')
    cat > "$folder/slurm.conf" <<END
ClusterName=loopback
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$controller_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
InactiveLimit=0
KillWait=2
MinJobAge=60
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmdLogFile=$folder/slurmd.%n.log
SlurmdSpoolDir=$folder/spool.%n
NodeName=one NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$first_port CPUs=1
NodeName=two NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$second_port CPUs=1
PartitionName=all Nodes=one,two Default=YES MaxTime=10 State=UP
END
    export SLURM_CONF=$folder/slurm.conf
    trap 'tail -n 5 -- "$folder"/*.log >&2; stop' ERR
    munged --force --socket "$folder/munge.socket" --key-file "$folder/munge.key" \
        --pid-file "$folder/munged.pid" --log-file "$folder/munged.log" \
        --seed-file "$folder/munge.seed" --num-threads 2
    slurmctld
    for node in one two; do
        mkdir "$folder/spool.$node"
        slurmd -N "$node"
    done
    for _ in $(seq 100); do
        if [ "$(sinfo -h -t idle -o %D)" = 2 ]; then return; fi
        sleep 0.1
    done
    echo "slurm.sh: the nodes are not ready" >&2
    sinfo >&2
    false
}

stop() {
    local pid
    folder=$(cd "$folder" && pwd)
    trap - ERR
    export SLURM_CONF=$folder/slurm.conf
    scancel --user root 2> /dev/null || true
    for _ in $(seq 50); do
        [ -n "$(squeue --noheader 2> /dev/null)" ] || break
        sleep 0.1
    done
    for pid in $(pids); do kill "$pid" 2> /dev/null || true; done
    for pid in $(pids); do
        for _ in $(seq 50); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2> /dev/null || true
    done
    # A job's own daemon waits for ever for a slurmd that it cannot tell of the job's end.
    for pid in $(pgrep slurmstepd); do
        [[ $(readlink "/proc/$pid/cwd") != "$folder"* ]] || kill -9 "$pid"
    done
    rm -rf "$folder"
}

case $command in
    start) start ;;
    stop)
        [ -f "$folder/munge.key" ] || { echo "slurm.sh: $folder: not of this script" >&2; exit 2; }
        stop
        ;;
    *) sed -n 's/^# Usage: //p' "$0" >&2; exit 2 ;;
esac
