"""The parent of every process of a test run: starts them fast and never outlives the run.

`python -m reattach.launcher FD PID` serves requests on the inherited SOCK_SEQPACKET socket FD for the process
PID. One message is one JSON object; file descriptors travel with it (SCM_RIGHTS).

| request | with it | answer |
|---|---|---|
| `{"op": "start", "argv", "cwd", "env", "unprivileged"}` | 3 streams | `{"id", "pid"}` and a pidfd |
| `{"op": "status", "id"}`, after the pidfd said that it ended | | `{"returncode"}`, `-N` for signal N |
| `{"op": "remove_at_exit", "path"}` | | `{}` |
| `{"op": "linger"}` | | `{}`: live on after PID ended, until SIGTERM |

A request that fails is answered with `{"error": text}`. When the socket closes or PID ends, however it ends,
the launcher kills every descendant, also those in sessions of their own, removes the trees and exits.
"""
