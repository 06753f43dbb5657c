"""Dagster's daemon with pooled connections.

`dagster-daemon` opens a connection for each statement and reads its queue every second: half of the
CPU of an idle deployment was Postgres, which starts a process for each connection.
"""

import argparse
import sys
import threading

import dagster as dg
from dagster._cli.utils import get_instance_for_cli
from dagster._daemon.cli import _daemon_run_command
from dagster._utils.interrupts import capture_interrupts, setup_interrupt_handlers
from dagster_shared.cli import WorkspaceOpts

from platform_assets.processes.instance_connections import close_connections, pool_connections
from platform_assets.processes.run_launcher import ForkRunLauncher


def main() -> None:
    """Run the daemon until an interrupt."""
    parser = argparse.ArgumentParser(prog="daemon")
    parser.add_argument("--workspace", required=True)
    options = parser.parse_args()
    threading.Thread(target=_start_forkserver_after_a_line, daemon=True).start()
    setup_interrupt_handlers()
    with capture_interrupts(), get_instance_for_cli() as instance:
        pool_connections(instance)
        try:
            _daemon_run_command(
                instance,
                log_level="info",
                code_server_log_level="warning",
                log_format="colored",
                workspace_opts=WorkspaceOpts(workspace=[options.workspace]),
            )
        except KeyboardInterrupt:
            return
        finally:
            close_connections(instance)


def _start_forkserver_after_a_line() -> None:
    if not sys.stdin.readline():
        return
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        # dagster.yaml may name another launcher, such as that of Kubernetes.
        if isinstance(launcher, ForkRunLauncher):
            launcher.prepare()
