"""Read by gunicorn when it starts in this folder: ``gunicorn server:app``."""

import os

bind = "127.0.0.1:" + os.environ.get("PORT", "8001")
worker_class = "gevent"
control_socket_disable = True
graceful_timeout = 3  # seconds for open connections, when it is to stop
accesslog = "-"
access_log_format = "%(m)s %(U)s %(s)s"  # not %(r)s, whose query holds the tickets
