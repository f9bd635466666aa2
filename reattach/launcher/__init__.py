"""The parent of every process of a test run: starts them fast and never outlives the run.

`python -m reattach.launcher FD PID` serves requests on the inherited SOCK_SEQPACKET socket FD for the process
PID. One message is one JSON object; file descriptors travel with it (SCM_RIGHTS).

* `{"op": "start", "argv", "cwd", "env", "unprivileged", "last_signal"}` with stdin, stdout and stderr:
  `{"id", "pid"}` with a pidfd. At the end of the run the process gets the signal, and soon after SIGKILL.
* `{"op": "status", "id"}`, once the pidfd said that it ended: `{"returncode"}`, `-N` for signal N.
* `{"op": "remove_at_exit", "path"}`: `{}`.
* `{"op": "linger"}`: `{}`, and the launcher lives on after PID ended, until SIGTERM.

A request that fails is answered with `{"error": text}`. When the socket closes or PID ends, however it ends,
the launcher kills every descendant, also those in sessions of their own, removes the trees and exits.
"""
