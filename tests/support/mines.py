"""For each rule of doctor's: files that have the fault, where it is told, and files that only look like it."""

from __future__ import annotations

from dataclasses import dataclass

Files = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A rule, the files with the fault, where it is told, and the files without."""

    rule: str
    bad: Files
    at: tuple[str, int]
    good: tuple[Files, ...]


FPM = "etc/php/8.2/fpm/php-fpm.conf"
POOL = "etc/php/8.2/fpm/pool.d/www.conf"
FPM_OK = "[global]\npid = /run/fpm.pid\nprocess_control_timeout = 30s\ninclude = /etc/php/8.2/fpm/pool.d/*.conf\n"
UNIT = "etc/systemd/system/shop.service"
CRON = "etc/cron.d/restart"
DEPLOY = "srv/shop/deploy.sh"


def unit(start: str, *more: str, head: str = "[Unit]\nDescription=Shop\n") -> str:
    """A unit as people write them."""
    return f"{head}\n[Service]\nExecStart={start}\n" + "".join(f"{line}\n" for line in more)


def rotation(pattern: str, *lines: str) -> str:
    """A stanza of logrotate's."""
    return f"{pattern} {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def script(*lines: str) -> str:
    """A shell script."""
    return "#!/bin/sh\nset -e\n" + "".join(f"{line}\n" for line in lines)


GUNICORN = "/srv/venv/bin/gunicorn shop:app"
FPM_UNIT = "/usr/sbin/php-fpm8.2 --nodaemonize --fpm-config /etc/php/8.2/fpm/php-fpm.conf"
INIT = """\
#!/bin/sh
. /etc/rc.d/init.d/functions
prog=php-fpm
stop() {{
    echo -n $"Stopping $prog: "
    {stop}
    echo
}}
case "$1" in
  start) start ;;
  stop) stop ;;
  restart) stop; start ;;
esac
"""
KILLPROC = INIT.format(stop="killproc -p /var/run/php-fpm.pid $prog")
GENTLE = INIT.format(stop="killproc -p /var/run/php-fpm.pid $prog -QUIT")


def deployment(*, container: str = "", spec: str = "", pod: str = "", kind: str = "Deployment") -> str:
    """A manifest of gunicorn's, with lines for its container, its spec, its pod."""
    return (
        f"apiVersion: apps/v1\nkind: {kind}\nmetadata:\n  name: shop\nspec:\n{spec}  template:\n    spec:\n{pod}"
        "      containers:\n        - name: web\n          image: registry/shop:1\n"
        '          command: ["gunicorn", "--graceful-timeout", "20", "shop:app"]\n'
        f"          ports:\n            - containerPort: 8000\n{container}"
    )


SERVED = '["gunicorn", "--graceful-timeout", "20", "shop:app"]'
LAME = '["lastcall", "serve", "shop:app", "--lame-duck", "10s", "--ready-path", "/ready"]'
READY = "          readinessProbe:\n            httpGet: {path: /ready, port: 8000}\n"
SLEEP = '          lifecycle:\n            preStop:\n              exec:\n                command: ["sleep", "15"]\n'

NGINX = "etc/nginx/nginx.conf"


def nginx(server: str, *more: str) -> str:
    """A configuration with one server block that has these lines."""
    return (
        "http {\n"
        + "".join(f"  {line}\n" for line in more)
        + f"  server {{\n    location / {{\n      {server}\n    }}\n  }}\n}}\n"
    )


PHP_CASES = (
    Case(
        "LC001",
        {FPM: "[global]\npid = /run/fpm.pid\n;process_control_timeout = 0\n"},
        (FPM, 1),
        (
            {FPM: FPM_OK},
            {POOL: "[www]\npm = dynamic\npm.max_children = 5\n"},
            {
                FPM: "[global]\ninclude=/etc/php/8.2/fpm/pool.d/*.conf\n",
                POOL: "[global]\nprocess_control_timeout = 5\n[www]\n",
            },
            {"etc/apache2/conf-available/php8.2-fpm.conf": "<IfModule proxy_fcgi_module>\nSetHandler x\n</IfModule>\n"},
        ),
    ),
    Case(
        "LC001",
        {FPM: "[global]\nprocess_control_timeout = 0 ; never\n"},
        (FPM, 2),
        ({FPM: "[global]\nprocess_control_timeout=1m\n"},),
    ),
    Case(
        "LC002",
        {FPM: FPM_OK.replace("30s", "5s"), POOL: "[www]\nlisten = /x\nrequest_terminate_timeout = 60s\n"},
        (FPM, 3),
        (
            {FPM: FPM_OK, POOL: "[www]\nrequest_terminate_timeout = 30s\n"},
            {FPM: FPM_OK, POOL: "[www]\npm = static\n"},
            {FPM: FPM_OK.replace("30s", "5s"), POOL: "[www]\n;request_terminate_timeout = 60s\n"},
        ),
    ),
    Case(
        "LC002",
        {FPM: FPM_OK.replace("30s", "20"), POOL: "[www]\nphp_admin_value[max_execution_time] = 120\n"},
        (FPM, 3),
        ({FPM: FPM_OK, POOL: "[www]\nphp_admin_value[max_execution_time] = 30\nrequest_terminate_timeout = 0\n"},),
    ),
    Case(
        "LC002",
        {FPM: FPM_OK.replace("30s", "20"), "etc/php/8.2/fpm/php.ini": "[PHP]\nmax_execution_time = 60\n"},
        (FPM, 3),
        (
            {FPM: FPM_OK, "etc/php/8.2/fpm/php.ini": "[PHP]\nmax_execution_time = 30\n"},
            {FPM: FPM_OK, "etc/php/8.2/cli/php.ini": "[PHP]\nmax_execution_time = 300\n"},
        ),
    ),
    Case(
        "LC003",
        {FPM: "[global]\nemergency_restart_threshold = 10\nemergency_restart_interval = 1m\n"},
        (FPM, 2),
        (
            {FPM: "[global]\nemergency_restart_threshold = 10\nemergency_restart_interval = 0\n"},
            {FPM: FPM_OK + "emergency_restart_threshold = 10\nemergency_restart_interval = 1m\n"},
        ),
    ),
    Case(
        "LC004",
        {UNIT: unit("/usr/bin/php-cgi -b 127.0.0.1:9000", "Environment=PHP_FCGI_MAX_REQUESTS=1000")},
        (UNIT, 6),
        (
            {UNIT: unit("/usr/bin/php-cgi -b 127.0.0.1:9000", "Environment=PHP_FCGI_MAX_REQUESTS=0")},
            {UNIT: unit("/usr/bin/php-cgi", "#Environment=PHP_FCGI_MAX_REQUESTS=1000")},
        ),
    ),
    Case(
        "LC005",
        {DEPLOY: script("cachetool opcache:reset --fcgi=/run/php.sock")},
        (DEPLOY, 3),
        ({DEPLOY: script("# cachetool opcache:reset", "systemctl reload php8.2-fpm")},),
    ),
    Case(
        "LC005",
        {"srv/shop/clear.php": "<?php\nopcache_reset();\n"},
        ("srv/shop/clear.php", 2),
        ({"srv/shop/clear.php": "<?php\n// opcache_reset();\n"},),
    ),
)

MONIT_FPM = "check process php-fpm with pidfile /run/php-fpm.pid\n"
MONIT_GUNICORN = "check process gunicorn with pidfile /run/gunicorn.pid\n"

ORDER_CASES = (
    Case(
        "LC101",
        {CRON: "# 2012\n28 5 * * * root /etc/init.d/php-fpm restart > /dev/null\n", "etc/init.d/php-fpm": KILLPROC},
        (CRON, 2),
        (
            {CRON: "28 5 * * * root /etc/init.d/php-fpm restart\n", "etc/init.d/php-fpm": GENTLE, FPM: FPM_OK},
            {CRON: "#28 5 * * * root /etc/init.d/php-fpm restart\n", "etc/init.d/php-fpm": KILLPROC},
            {CRON + ".bak": "28 5 * * * root /etc/init.d/php-fpm restart\n", "etc/init.d/php-fpm": KILLPROC},
            {
                CRON: "28 5 * * * root systemctl restart php-fpm\n",
                "etc/systemd/system/php-fpm.service": unit("/usr/sbin/php-fpm", "KillSignal=SIGQUIT"),
                FPM: FPM_OK,
            },
        ),
    ),
    Case(
        "LC101",
        {"var/spool/cron/crontabs/root": "0 4 * * * systemctl restart php8.2-fpm\n"},
        ("var/spool/cron/crontabs/root", 1),
        (
            {"var/spool/cron/crontabs/root": "0 4 * * * systemctl reload php8.2-fpm\n", FPM: FPM_OK},
            {"var/spool/cron/crontabs/root": "0 4 * * * systemctl restart cups\n"},
        ),
    ),
    Case(
        "LC101",
        {"etc/cron.daily/php": script("kill -TERM $(cat /run/php/php8.2-fpm.pid)")},
        ("etc/cron.daily/php", 3),
        ({"etc/cron.daily/php": script("kill -USR1 $(cat /run/php/php8.2-fpm.pid)")},),
    ),
    Case(
        "LC102",
        {CRON: "0 4 * * * root systemctl restart gunicorn\n"},
        (CRON, 1),
        (
            {CRON: "0 4 * * * root systemctl reload gunicorn\n"},
            {CRON: "0 4 * * * root systemctl restart backup\n"},
        ),
    ),
    Case(
        "LC103",
        {"etc/init.d/php-fpm": KILLPROC},
        ("etc/init.d/php-fpm", 6),
        (
            {"etc/init.d/php-fpm": GENTLE, FPM: FPM_OK},
            {
                "etc/init.d/php-fpm": KILLPROC.replace("rc.d/init.d/functions", "x; . /lib/lsb/init-functions"),
                "lib/systemd/system/php-fpm.service": unit("/usr/sbin/php-fpm", "KillSignal=SIGQUIT"),
                FPM: FPM_OK,
            },
            {"etc/init.d/postgresql": KILLPROC.replace("php-fpm", "postgres")},
        ),
    ),
    Case(
        "LC103",
        {"etc/init.d/shop": INIT.format(stop="service php-fpm stop")},
        ("etc/init.d/shop", 6),
        ({"etc/init.d/shop": INIT.format(stop="service php-fpm reload"), FPM: FPM_OK},),
    ),
    Case(
        "LC104",
        {DEPLOY: script("pkill -9 -f gunicorn || true")},
        (DEPLOY, 3),
        (
            {
                DEPLOY: script(
                    "pkill -TERM -f gunicorn", "# pkill -9 gunicorn", "echo 'kill -9 gunicorn'", "kill -9 $editor"
                )
            },
        ),
    ),
    Case(
        "LC104",
        {DEPLOY: script("ps aux | grep '[p]hp-fpm' | awk '{print $2}' | xargs kill -9")},
        (DEPLOY, 3),
        ({DEPLOY: script("ps aux | grep '[p]hp-fpm' | awk '{print $2}' | xargs kill -QUIT"), FPM: FPM_OK},),
    ),
    Case(
        "LC104",
        {UNIT: unit(GUNICORN, "ExecStop=/bin/kill -KILL $MAINPID")},
        (UNIT, 6),
        ({UNIT: unit(GUNICORN, "ExecStop=/bin/kill -TERM $MAINPID")},),
    ),
    Case(
        "LC105",
        {"etc/init.d/nginx": INIT.format(stop="start-stop-daemon --stop --retry=QUIT/5/TERM/5/KILL/5 --name nginx")},
        ("etc/init.d/nginx", 6),
        (
            {
                "etc/init.d/nginx": INIT.format(
                    stop="start-stop-daemon --stop --retry=QUIT/60/TERM/5/KILL/5 --name nginx"
                )
            },
        ),
    ),
    Case(
        "LC105",
        {
            "lib/systemd/system/nginx.service": unit(
                "/usr/sbin/nginx",
                "ExecStop=-/sbin/start-stop-daemon --stop --retry QUIT/5 --pidfile /run/nginx.pid",
                "TimeoutStopSec=5",
            )
        },
        ("lib/systemd/system/nginx.service", 6),
        (
            {
                "lib/systemd/system/nginx.service": unit(
                    "/usr/sbin/nginx",
                    "ExecStop=-/sbin/start-stop-daemon --stop --retry QUIT/30 --pidfile /run/nginx.pid",
                )
            },
        ),
    ),
    Case(
        "LC106",
        {
            "etc/logrotate.d/php": rotation(
                "/var/log/php-fpm/*.log", "weekly", "postrotate", "service php-fpm restart", "endscript"
            )
        },
        ("etc/logrotate.d/php", 4),
        (
            {
                "etc/logrotate.d/php": rotation(
                    "/var/log/php-fpm/*.log", "postrotate", "kill -USR1 $(cat /run/php-fpm.pid)", "endscript"
                )
            },
            {
                "etc/logrotate.d/cups": rotation(
                    "/var/log/cups/*.log", "postrotate", "service cups restart", "endscript"
                )
            },
        ),
    ),
    Case(
        "LC107",
        {
            "etc/logrotate.d/g": rotation(
                "/var/log/gunicorn.log", "postrotate", "systemctl reload gunicorn", "endscript"
            )
        },
        ("etc/logrotate.d/g", 3),
        (
            {
                "etc/logrotate.d/g": rotation(
                    "/var/log/gunicorn.log", "postrotate", "systemctl kill -s USR1 gunicorn", "endscript"
                )
            },
            {
                "etc/logrotate.d/a": rotation(
                    "/var/log/apache2/*.log", "postrotate", "invoke-rc.d apache2 reload", "endscript"
                )
            },
        ),
    ),
    Case(
        "LC108",
        {"etc/logrotate.d/u": rotation("/var/log/uwsgi/app/*.log", "copytruncate", "daily")},
        ("etc/logrotate.d/u", 2),
        (
            {"etc/logrotate.d/u": rotation("/var/log/uwsgi/app/*.log", "daily", "create")},
            {"etc/logrotate.d/u": rotation("/var/log/other/*.log", "copytruncate")},
        ),
    ),
    Case(
        "LC109",
        {DEPLOY: script("git pull", "service php-fpm restart")},
        (DEPLOY, 4),
        (
            {DEPLOY: script("service php-fpm reload"), FPM: FPM_OK},
            {DEPLOY: script("apt-get -y install php-fpm", "service php-fpm restart")},
            {DEPLOY: script("systemctl restart php-fpm-exporter")},
            {DEPLOY: script("echo service php-fpm restart")},
            {DEPLOY: script("kill -0 $(cat /run/php-fpm.pid)")},
        ),
    ),
    Case(
        "LC109",
        {DEPLOY: script("kill -HUP $(cat /run/unicorn.pid)", "kill -TERM $(cat /run/unicorn.pid)")},
        (DEPLOY, 4),
        ({DEPLOY: script("kill -QUIT $(cat /run/unicorn.pid)")},),
    ),
    Case(
        "LC110",
        {DEPLOY: script("kill -QUIT `cat /run/gunicorn.pid`")},
        (DEPLOY, 3),
        (
            {DEPLOY: script("kill -TERM `cat /run/gunicorn.pid`")},
            {DEPLOY: script("kill -QUIT `cat /run/unicorn.pid`")},
        ),
    ),
    Case(
        "LC111",
        {DEPLOY: script("sudo systemctl restart gunicorn")},
        (DEPLOY, 3),
        (
            {DEPLOY: script("sudo systemctl reload gunicorn")},
            {DEPLOY: script("sudo systemctl start gunicorn")},
            {DEPLOY: script("sudo systemctl restart shop-worker")},
        ),
    ),
    Case(
        "LC112",
        {"etc/letsencrypt/renewal/shop.conf": "version = 2.1\n[renewalparams]\npost_hook = systemctl restart nginx\n"},
        ("etc/letsencrypt/renewal/shop.conf", 3),
        ({"etc/letsencrypt/renewal/shop.conf": "[renewalparams]\npost_hook = systemctl reload nginx\n"},),
    ),
    Case(
        "LC112",
        {CRON: "0 3 * * * root certbot renew --pre-hook 'service nginx stop' --post-hook 'service nginx start'\n"},
        (CRON, 1),
        ({CRON: "0 3 * * * root certbot renew --deploy-hook 'service nginx reload'\n"},),
    ),
    Case(
        "LC113",
        {CRON: "@reboot www cd /srv/shop && /srv/venv/bin/gunicorn shop:app -D\n"},
        (CRON, 1),
        (
            {CRON: "@reboot root systemctl start gunicorn\n"},
            {CRON: "@reboot root /etc/init.d/nginx start\n"},
            {CRON: "@reboot root /usr/local/bin/backup\n"},
        ),
    ),
    Case(
        "LC114",
        {
            "etc/systemd/system/night.timer": "[Timer]\nOnCalendar=daily\n",
            "etc/systemd/system/night.service": unit("/bin/systemctl restart php-fpm"),
        },
        ("etc/systemd/system/night.service", 5),
        (
            {
                "etc/systemd/system/night.timer": "[Timer]\nOnCalendar=daily\n",
                "etc/systemd/system/night.service": unit("/bin/systemctl reload php-fpm"),
                FPM: FPM_OK,
            },
            {"etc/systemd/system/night.service": unit("/bin/systemctl restart php-fpm")},
        ),
    ),
    Case(
        "LC115",
        {
            "etc/systemd/system/night.timer": "[Timer]\nOnCalendar=daily\nUnit=again.service\n",
            "etc/systemd/system/again.service": unit("/bin/systemctl restart gunicorn"),
        },
        ("etc/systemd/system/again.service", 5),
        (
            {
                "etc/systemd/system/night.timer": "[Timer]\nOnCalendar=daily\n",
                "etc/systemd/system/again.service": unit("/bin/systemctl restart gunicorn"),
            },
        ),
    ),
    Case(
        "LC116",
        {"etc/monit/conf.d/fpm": MONIT_FPM + '  stop program = "/usr/bin/pkill -TERM php-fpm"\n'},
        ("etc/monit/conf.d/fpm", 2),
        ({"etc/monit/conf.d/fpm": MONIT_FPM + '  # stop program = "/usr/bin/pkill php-fpm"\n'},),
    ),
    Case(
        "LC117",
        {"etc/monit/conf.d/g": MONIT_GUNICORN + "  if totalmem > 500 MB then restart\n"},
        ("etc/monit/conf.d/g", 2),
        (
            {"etc/monit/conf.d/g": MONIT_GUNICORN + "  if does not exist then restart\n"},
            {"etc/monit/conf.d/g": MONIT_GUNICORN + "  if totalmem > 500 MB then alert\n"},
        ),
    ),
    Case(
        "LC118",
        {"etc/apt/apt.conf.d/50unattended-upgrades": '// x\nUnattended-Upgrade::Automatic-Reboot "true";\n'},
        ("etc/apt/apt.conf.d/50unattended-upgrades", 2),
        ({"etc/apt/apt.conf.d/50unattended-upgrades": '//Unattended-Upgrade::Automatic-Reboot "true";\n'},),
    ),
    Case(
        "LC119",
        {"etc/needrestart/needrestart.conf": "$nrconf{restart} = 'a';\n"},
        ("etc/needrestart/needrestart.conf", 1),
        ({"etc/needrestart/needrestart.conf": "#$nrconf{restart} = 'a';\n$nrconf{restart} = 'l';\n"},),
    ),
    Case(
        "LC120",
        {
            "roles/php/handlers/main.yml": "- name: restart php\n  service:\n    name: php8.2-fpm\n    state: restarted\n"
        },
        ("roles/php/handlers/main.yml", 4),
        (
            {"roles/php/handlers/main.yml": "- name: reload php\n  service: name=php8.2-fpm state=reloaded\n"},
            {"roles/php/handlers/main.yml": "- name: restart ssh\n  service:\n    name: ssh\n    state: restarted\n"},
            {"roles/php/handlers/main.yml": "# - service: name=php8.2-fpm state=restarted\n- debug: msg=x\n"},
        ),
    ),
    Case(
        "LC120",
        {"site.yml": "- hosts: web\n  tasks:\n    - ansible.builtin.systemd: name=gunicorn state=restarted\n"},
        ("site.yml", 3),
        ({"site.yml": "- hosts: web\n  tasks:\n    - ansible.builtin.systemd: name=gunicorn state=started\n"},),
    ),
    Case(
        "LC109",
        {
            ".github/workflows/deploy.yml": "jobs:\n  d:\n    steps:\n      - run: |\n          x\n          pkill uwsgi\n"
        },
        (".github/workflows/deploy.yml", 6),
        ({".github/workflows/deploy.yml": "jobs:\n  d:\n    steps:\n      - run: pkill -HUP uwsgi\n"},),
    ),
    Case(
        "LC111",
        {".gitlab-ci.yml": "deploy:\n  script:\n    - git pull\n    - sudo systemctl restart gunicorn\n"},
        (".gitlab-ci.yml", 4),
        ({".gitlab-ci.yml": "deploy:\n  script:\n    - sudo systemctl reload gunicorn\n"},),
    ),
)

DROP = "etc/systemd/system/php8.2-fpm.service.d/quit.conf"
VENDOR = "usr/lib/systemd/system/php8.2-fpm.service"

UNIT_CASES = (
    Case(
        "LC201",
        {VENDOR: unit(FPM_UNIT)},
        (VENDOR, 5),
        (
            {VENDOR: unit(FPM_UNIT), DROP: "[Service]\nKillSignal=SIGQUIT\n"},
            {VENDOR: unit(FPM_UNIT), "etc/systemd/system/php8.2-fpm.service": unit(FPM_UNIT, "KillSignal=QUIT")},
            {UNIT: unit("/usr/sbin/nginx -g 'daemon off;'")},
        ),
    ),
    Case(
        "LC202",
        {UNIT: unit(GUNICORN, "KillSignal=SIGQUIT")},
        (UNIT, 6),
        (
            {UNIT: unit(GUNICORN)},
            {UNIT: unit("/usr/bin/bundle exec unicorn -c u.rb", "KillSignal=SIGQUIT")},
            {UNIT: unit(GUNICORN, "# KillSignal=SIGQUIT")},
        ),
    ),
    Case(
        "LC202",
        {UNIT: unit("/usr/bin/bundle exec unicorn -c u.rb")},
        (UNIT, 5),
        (
            {UNIT: unit("/usr/bin/bundle exec puma")},
            {UNIT: unit("/usr/sbin/apachectl start", "Type=forking", "ExecStop=/usr/sbin/apachectl graceful-stop")},
        ),
    ),
    Case(
        "LC203",
        {UNIT: unit(GUNICORN)},
        (UNIT, 5),
        (
            {UNIT: unit(GUNICORN, "KillMode=mixed")},
            {UNIT: unit("/usr/bin/python3 job.py")},
        ),
    ),
    Case(
        "LC203",
        {UNIT: unit(GUNICORN, "KillMode=control-group")},
        (UNIT, 6),
        ({UNIT: unit(GUNICORN, "KillMode=process")},),
    ),
    Case(
        "LC204",
        {UNIT: unit(GUNICORN + " --graceful-timeout 60", "TimeoutStopSec=20")},
        (UNIT, 6),
        (
            {UNIT: unit(GUNICORN + " --graceful-timeout 60", "TimeoutStopSec=1min 10s")},
            {UNIT: unit(GUNICORN)},
            {UNIT: unit(GUNICORN + " --graceful-timeout 60", "TimeoutStopSec=infinity")},
            {UNIT: unit(GUNICORN + " --graceful-timeout 60", "TimeoutStopSec=0")},
            {UNIT: unit(GUNICORN, "TimeoutStopSec=@STOP_TIMEOUT@")},
        ),
    ),
    Case(
        "LC204",
        {VENDOR: unit(FPM_UNIT), FPM: "[global]\nprocess_control_timeout = 300s\n"},
        (VENDOR, 5),
        ({VENDOR: unit(FPM_UNIT), FPM: "[global]\nprocess_control_timeout = 60s\n"},),
    ),
    Case(
        "LC205",
        {UNIT: unit(GUNICORN, "ExecReload=/bin/kill -s HUP $MAINPID")},
        (UNIT, 6),
        (
            {UNIT: unit(GUNICORN, "Type=notify-reload", "ExecReload=/bin/kill -s HUP $MAINPID")},
            {UNIT: unit("/opt/bin/lastcall serve shop:app", "ExecReload=/opt/bin/lastcall reload --wait")},
        ),
    ),
    Case(
        "LC206",
        {UNIT: unit("/srv/venv/bin/uvicorn shop:app", "ExecReload=/bin/kill -HUP $MAINPID")},
        (UNIT, 6),
        (
            {UNIT: unit("/srv/venv/bin/uvicorn shop:app --workers 4", "ExecReload=/bin/kill -HUP $MAINPID")},
            {UNIT: unit(GUNICORN, "ExecReload=/bin/kill -HUP $MAINPID")},
            {UNIT: unit(FPM_UNIT, "ExecReload=/bin/kill -HUP $MAINPID")},
        ),
    ),
    Case(
        "LC207",
        {UNIT: unit(GUNICORN, "RuntimeMaxSec=1d")},
        (UNIT, 6),
        (
            {UNIT: unit(GUNICORN, "RuntimeMaxSec=infinity")},
            {UNIT: unit("/usr/bin/backup", "RuntimeMaxSec=1h")},
        ),
    ),
    Case(
        "LC208",
        {UNIT: unit(GUNICORN)},
        (UNIT, 5),
        (
            {UNIT: unit(GUNICORN, "OOMPolicy=continue")},
            {UNIT: unit("/usr/bin/waitress-serve shop:app")},
        ),
    ),
    Case(
        "LC209",
        {UNIT: unit(GUNICORN, head="[Unit]\nRequires=postgresql.service\nAfter=postgresql.service\n")},
        (UNIT, 2),
        (
            {
                UNIT: unit(
                    GUNICORN, head="[Unit]\nWants=postgresql.service\nAfter=postgresql.service\nRequires=shop.socket\n"
                )
            },
        ),
    ),
    Case(
        "LC210",
        {UNIT: unit(GUNICORN, "Type=notify", "WatchdogSec=30")},
        (UNIT, 7),
        (
            {UNIT: unit(GUNICORN, "Type=notify")},
            {UNIT: unit("/opt/lastcall serve shop:app", "WatchdogSec=30")},
            {UNIT: unit(GUNICORN, "NotifyAccess=all", "WatchdogSec=30")},
        ),
    ),
    Case(
        "LC211",
        {UNIT: unit("/bin/sh -c 'cd /srv && gunicorn shop:app'", "KillMode=mixed")},
        (UNIT, 5),
        (
            {UNIT: unit("/bin/sh -c 'cd /srv && exec gunicorn shop:app'", "KillMode=mixed")},
            {UNIT: unit("/bin/sh -c 'cd /srv && gunicorn shop:app'")},
            {UNIT: unit("/bin/sh -c 'gunicorn shop:app'", "KillMode=mixed")},
        ),
    ),
    Case(
        "LC212",
        {UNIT: unit(GUNICORN, "ExecStop=/bin/kill -s QUIT $MAINPID")},
        (UNIT, 6),
        (
            {UNIT: unit(GUNICORN, "ExecStop=/bin/kill -s TERM $MAINPID")},
            {UNIT: unit("/usr/sbin/nginx", "ExecStop=/bin/kill -s QUIT $MAINPID")},
        ),
    ),
)

SUP = "etc/supervisor/conf.d/shop.conf"
GCONF = "srv/shop/gunicorn.conf.py"
UINI = "srv/shop/uwsgi.ini"

PM2 = "module.exports = {{\n  apps: [{{\n    name: 'shop',\n    script: './server.js',\n{}  }}],\n}};\n"

PROGRAM_CASES = (
    Case(
        "LC301",
        {GCONF: "bind = ':8000'\ntimeout = 120\n"},
        (GCONF, 2),
        (
            {GCONF: "timeout = 120\ngraceful_timeout = 130\n"},
            {GCONF: "workers = 4\n"},
            {GCONF: "import os\ntimeout = int(os.environ['T'])\n"},
        ),
    ),
    Case(
        "LC301",
        {UNIT: unit(GUNICORN + " --timeout 120 --graceful-timeout 30")},
        (UNIT, 5),
        ({UNIT: unit(GUNICORN + " -t 20 --graceful-timeout=30")},),
    ),
    Case(
        "LC302",
        {GCONF: "max_requests = 1000\n"},
        (GCONF, 1),
        ({GCONF: "max_requests = 1000\nmax_requests_jitter = 100\n"},),
    ),
    Case(
        "LC303",
        {UINI: "[uwsgi]\nmaster = true\nmodule = shop:app\n"},
        (UINI, 1),
        (
            {UINI: "[uwsgi]\nmaster = true\ndie-on-term = true\n"},
            {UINI: "[uwsgi]\nmodule = shop:app\n"},
            {UINI: "[uwsgi]\nmaster = false\n"},
            {UINI: "[uwsgi]\nmaster = true\n", UNIT: unit("/usr/bin/uwsgi --emperor /etc/uwsgi --die-on-term")},
            {"etc/uwsgi/apps-enabled/shop.ini": "[uwsgi]\nmaster = true\n"},
            {
                UINI: "[uwsgi]\nmaster = true\n",
                UNIT: unit("/usr/bin/uwsgi --ini /srv/shop/uwsgi.ini", "KillSignal=SIGQUIT"),
            },
        ),
    ),
    Case(
        "LC304",
        {UINI: "[uwsgi]\nmaster = 1\ndie-on-term = 1\nharakiri = 300\nworker-reload-mercy = 60\n"},
        (UINI, 5),
        (
            {UINI: "[uwsgi]\ndie-on-term = 1\nharakiri = 30\n"},
            {UINI: "[uwsgi]\nharakiri = 300\nworker-reload-mercy = 310\nreload-mercy = 310\n"},
        ),
    ),
    Case(
        "LC305",
        {SUP: "[program:fpm]\ncommand=/usr/sbin/php-fpm8.2 -F\n"},
        (SUP, 2),
        (
            {SUP: "[program:fpm]\ncommand=/usr/sbin/php-fpm8.2 -F\nstopsignal=QUIT\n"},
            {SUP: ";[program:fpm]\n;command=/usr/sbin/php-fpm8.2 -F\n[program:x]\ncommand=/bin/x\n"},
        ),
    ),
    Case(
        "LC305",
        {SUP: "[program:web]\ncommand=gunicorn shop:app\nstopsignal=QUIT\nstopwaitsecs=60\n"},
        (SUP, 3),
        ({SUP: "[program:web]\ncommand=gunicorn shop:app\nstopsignal=TERM\n"},),
    ),
    Case(
        "LC306",
        {SUP: "[program:web]\ncommand=gunicorn shop:app\n"},
        (SUP, 2),
        (
            {SUP: "[program:web]\ncommand=gunicorn shop:app\nstopwaitsecs=60\n"},
            {SUP: "[program:web]\ncommand=uvicorn shop:app\n"},
            {SUP: "[program:web]\ncommand=gunicorn shop:app\nstopwaitsecs={{ wait }}\n"},
        ),
    ),
    Case(
        "LC307",
        {SUP: '[program:web]\ncommand=bash -c "cd /srv && gunicorn shop:app"\n'},
        (SUP, 2),
        (
            {SUP: '[program:web]\ncommand=bash -c "cd /srv && exec gunicorn shop:app"\n'},
            {SUP: '[program:web]\ncommand=bash -c "cd /srv && gunicorn shop:app"\nstopasgroup=true\n'},
            {SUP: '[program:web]\ncommand=bash -c "gunicorn shop:app"\n'},
        ),
    ),
    Case(
        "LC308",
        {"srv/shop/ecosystem.config.js": PM2.format("")},
        ("srv/shop/ecosystem.config.js", 4),
        ({"srv/shop/ecosystem.config.js": PM2.format("    kill_timeout: 30000,\n")},),
    ),
    Case(
        "LC309",
        {UNIT: unit("/srv/bin/uvicorn shop:app --timeout-graceful-shutdown 5")},
        (UNIT, 5),
        (
            {UNIT: unit("/srv/bin/uvicorn shop:app --timeout-graceful-shutdown 60")},
            {UNIT: unit("/srv/bin/uvicorn shop:app")},
        ),
    ),
    Case(
        "LC310",
        {UNIT: unit("/srv/bin/hypercorn shop:app")},
        (UNIT, 5),
        (
            {UNIT: unit("/srv/bin/hypercorn shop:app --graceful-timeout 30")},
            {
                UNIT: unit("/srv/bin/hypercorn -c /srv/hypercorn.toml shop:app"),
                "srv/hypercorn.toml": "graceful_timeout = 30\n",
            },
        ),
    ),
    Case(
        "LC311",
        {UNIT: unit("/srv/bin/granian --interface wsgi shop:app --workers-kill-timeout 3")},
        (UNIT, 5),
        ({UNIT: unit("/srv/bin/granian --interface wsgi shop:app")},),
    ),
    Case(
        "LC312",
        {"srv/shop/config/puma.rb": "workers 2\nworker_shutdown_timeout 5\n"},
        ("srv/shop/config/puma.rb", 2),
        (
            {"srv/shop/config/puma.rb": "workers 2\n# worker_shutdown_timeout 5\n"},
            {"srv/shop/config/puma.rb": "worker_shutdown_timeout 60\n"},
        ),
    ),
    Case(
        "LC313",
        {UNIT: unit("/srv/bin/uvicorn shop:app --limit-max-requests 1000")},
        (UNIT, 5),
        ({UNIT: unit("/srv/bin/uvicorn shop:app")},),
    ),
    Case(
        "LC314",
        {UNIT: unit("/srv/bin/hypercorn shop:app --max-requests 1000 --graceful-timeout 60")},
        (UNIT, 5),
        ({UNIT: unit("/srv/bin/hypercorn shop:app")},),
    ),
    Case(
        "LC315",
        {UNIT: unit("/srv/bin/uvicorn shop:app --reload")},
        (UNIT, 5),
        (
            {UNIT: unit("/srv/bin/uvicorn shop:app --reload-dir x")},
            {"compose.yaml": "services:\n  web:\n    build: .\n    command: uvicorn shop:app --reload\n"},
        ),
    ),
)

COMPOSE = "srv/shop/compose.yaml"
DOCKER = "srv/shop/Dockerfile"
K8S = "srv/k8s/shop.yaml"

CONTAINER_CASES = (
    Case(
        "LC401",
        {DOCKER: 'FROM debian:12\nRUN apt-get install -y php8.2-fpm\nCMD ["php-fpm8.2", "-F"]\n'},
        (DOCKER, 3),
        (
            {DOCKER: 'FROM php:8.3-fpm-alpine\nCOPY . /srv\nCMD ["php-fpm"]\n'},
            {DOCKER: 'FROM python:3\nCMD ["gunicorn", "shop:app"]\n'},
            {DOCKER: 'FROM debian:12\nSTOPSIGNAL SIGQUIT\nCMD ["php-fpm8.2", "-F"]\n'},
            {DOCKER: "ARG V=8.3\nFROM php:${V}-fpm\n"},
        ),
    ),
    Case("LC401", {DOCKER: "FROM php:8.3-fpm\nSTOPSIGNAL SIGTERM\n"}, (DOCKER, 2), ({DOCKER: "FROM php:8.3-fpm\n"},)),
    Case(
        "LC402",
        {DOCKER: "FROM python:3\nCMD gunicorn shop:app\n"},
        (DOCKER, 2),
        (
            {DOCKER: 'FROM python:3\nCMD ["gunicorn", "shop:app"]\n'},
            {DOCKER: "FROM python:3\nCMD exec gunicorn shop:app\n"},
            {DOCKER: "FROM python:3\nCMD python job.py\n"},
            {DOCKER: 'FROM python:3\nCMD gunicorn x\nFROM python:3\nCMD ["gunicorn", "x"]\n'},
        ),
    ),
    Case(
        "LC402",
        {DOCKER: "FROM python:3\nENTRYPOINT ./migrate && gunicorn shop:app\n"},
        (DOCKER, 2),
        ({DOCKER: "FROM python:3\nENTRYPOINT ./migrate && exec gunicorn shop:app\n"},),
    ),
    Case(
        "LC402",
        {COMPOSE: "services:\n  web:\n    command: sh -c 'migrate && gunicorn shop:app'\n"},
        (COMPOSE, 3),
        (
            {COMPOSE: "services:\n  web:\n    command: sh -c 'migrate && exec gunicorn shop:app'\n"},
            {COMPOSE: "services:\n  web:\n    command: gunicorn shop:app\n"},
            {COMPOSE: "services:\n  web:\n    command: sh -c 'gunicorn shop:app'\n"},
        ),
    ),
    Case(
        "LC402",
        {DOCKER: 'FROM python:3\nCMD ["sh", "-c", "./migrate; gunicorn shop:app"]\n'},
        (DOCKER, 2),
        (
            {DOCKER: 'FROM python:3\nCMD ["sh", "-c", "./migrate; exec gunicorn shop:app"]\n'},
            {K8S: deployment(container=READY).replace(SERVED, '["sh", "-c", "a && exec gunicorn shop:app"]')},
        ),
    ),
    Case(
        "LC402",
        {K8S: deployment(container=READY).replace(SERVED, '["sh", "-c", "./migrate && gunicorn shop:app"]')},
        (K8S, 9),
        ({K8S: deployment(container=READY)},),
    ),
    Case(
        "LC403",
        {
            DOCKER: 'FROM python:3\nENTRYPOINT ["/start.sh"]\n',
            "srv/shop/start.sh": script("./migrate", "gunicorn shop:app"),
        },
        ("srv/shop/start.sh", 4),
        (
            {
                DOCKER: 'FROM python:3\nENTRYPOINT ["/start.sh"]\n',
                "srv/shop/start.sh": script("./migrate", "exec gunicorn shop:app"),
            },
            {
                DOCKER: 'FROM python:3\nENTRYPOINT ["/start.sh"]\n',
                "srv/shop/start.sh": script("./migrate", 'exec "$@"'),
            },
            {"srv/shop/start.sh": script("gunicorn shop:app")},
        ),
    ),
    Case(
        "LC404",
        {COMPOSE: "services:\n  web:\n    build: .\n    command: gunicorn shop:app\n"},
        (COMPOSE, 4),
        (
            {COMPOSE: "services:\n  web:\n    command: gunicorn shop:app\n    stop_grace_period: 1m\n"},
            {COMPOSE: "services:\n  db:\n    image: postgres:16\n"},
            {COMPOSE: "services:\n  web:\n    command: uvicorn shop:app\n"},
            {COMPOSE: "services:\n  web:\n    command: gunicorn shop:app\n    stop_grace_period: ${GRACE:-10s}\n"},
        ),
    ),
    Case(
        "LC404",
        {
            COMPOSE: "services:\n  fpm:\n    image: php:8.3-fpm\n    stop_grace_period: 5s\n",
            "srv/shop/php-fpm.conf": "[global]\nprocess_control_timeout = 30s\n",
        },
        (COMPOSE, 4),
        (
            {
                COMPOSE: "services:\n  fpm:\n    image: php:8.3-fpm\n    stop_grace_period: 40s\n",
                "srv/shop/php-fpm.conf": "[global]\nprocess_control_timeout = 30s\n",
            },
        ),
    ),
    Case(
        "LC405",
        {COMPOSE: "services:\n  web:\n    image: nginx:1.27\n    stop_signal: SIGTERM\n"},
        (COMPOSE, 4),
        (
            {COMPOSE: "services:\n  web:\n    image: nginx:1.27\n"},
            {COMPOSE: "services:\n  web:\n    image: nginx:1.27\n    # stop_signal: SIGTERM\n"},
            {COMPOSE: "services:\n  web:\n    build: .\n", DOCKER: "FROM php:8.3-fpm\n"},
        ),
    ),
    Case(
        "LC406",
        {K8S: deployment(container=READY + SLEEP)},
        (K8S, 9),
        (
            {K8S: deployment(container=READY + SLEEP, pod="      terminationGracePeriodSeconds: 60\n")},
            {K8S: deployment(container=READY + SLEEP.replace("15", "5"))},
            {K8S: deployment(container=READY)},
            {
                K8S: deployment(
                    container=READY + SLEEP, pod="      terminationGracePeriodSeconds: {{ .Values.grace }}\n"
                )
            },
        ),
    ),
    Case(
        "LC406",
        {K8S: deployment(container=READY, pod="      terminationGracePeriodSeconds: 10\n")},
        (K8S, 8),
        ({K8S: deployment(container=READY, pod="      terminationGracePeriodSeconds: 30\n")},),
    ),
    Case(
        "LC407",
        {K8S: deployment(container=READY)},
        (K8S, 9),
        (
            {K8S: deployment(container=READY + SLEEP)},
            {K8S: deployment(container=READY, kind="DaemonSet")},
            {K8S: deployment(container=READY).replace(SERVED, LAME)},
            {K8S: deployment(container=READY).replace("          ports:\n            - containerPort: 8000\n", "")},
        ),
    ),
    Case(
        "LC408",
        {K8S: deployment(spec="  strategy:\n    type: Recreate\n")},
        (K8S, 7),
        (
            {K8S: deployment(spec="  strategy:\n    type: RollingUpdate\n")},
            {
                K8S: deployment(
                    spec="  strategy:\n    type: Recreate\n",
                    pod="      volumes:\n        - persistentVolumeClaim: {claimName: x}\n",
                )
            },
        ),
    ),
    Case("LC409", {K8S: deployment(container=SLEEP)}, (K8S, 9), ({K8S: deployment(container=READY + SLEEP)},)),
    Case(
        "LC410",
        {K8S: deployment(spec="  replicas: 1\n  strategy:\n    rollingUpdate:\n      maxUnavailable: 1\n")},
        (K8S, 9),
        (
            {K8S: deployment(spec="  replicas: 3\n  strategy:\n    rollingUpdate:\n      maxUnavailable: 1\n")},
            {K8S: deployment(spec="  replicas: 1\n")},
        ),
    ),
    Case(
        "LC411",
        {DEPLOY: script("docker rm -f shop", "docker run -d --name shop shop:2")},
        (DEPLOY, 3),
        (
            {
                DEPLOY: script(
                    "docker stop -t 60 shop",
                    "docker rm shop",
                    "docker compose rm -f",
                    "docker kill -s QUIT web",
                    "docker ps -f x",
                )
            },
        ),
    ),
    Case("LC411", {DEPLOY: script("docker stop -t 2 shop")}, (DEPLOY, 3), ({DEPLOY: script("docker stop shop")},)),
    Case(
        "LC412",
        {DEPLOY: script("kubectl delete pod shop-1 --grace-period=0 --force")},
        (DEPLOY, 3),
        ({DEPLOY: script("kubectl delete pod shop-1", "kubectl delete pod x --grace-period=60")},),
    ),
    Case(
        "LC413",
        {"etc/docker/daemon.json": '{"log-driver": "json-file"}\n'},
        ("etc/docker/daemon.json", 1),
        ({"etc/docker/daemon.json": '{"live-restore": true}\n'},),
    ),
)

BACK = "upstream app { server 10.0.0.1:80 max_fails=1; server 10.0.0.2:80 max_fails=1; }"
KEPT = "upstream shop { server 127.0.0.1:8000; keepalive 8; }"

FRONT_CASES = (
    Case(
        "LC501",
        {NGINX: nginx("proxy_next_upstream error timeout non_idempotent;")},
        (NGINX, 4),
        (
            {NGINX: nginx("proxy_next_upstream error timeout;")},
            {NGINX: nginx("# proxy_next_upstream error non_idempotent;")},
            {
                NGINX: "http { include sites-enabled/*; }\n",
                "etc/nginx/sites-available/old": "server { fastcgi_next_upstream error non_idempotent; }\n",
            },
        ),
    ),
    Case(
        "LC501",
        {
            K8S: "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  annotations:\n"
            "    nginx.ingress.kubernetes.io/proxy-next-upstream: error non_idempotent\n"
        },
        (K8S, 5),
        (
            {
                K8S: "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  annotations:\n"
                "    nginx.ingress.kubernetes.io/proxy-next-upstream: error\n"
            },
        ),
    ),
    Case(
        "LC502",
        {NGINX: nginx("fastcgi_pass unix:/run/php.sock; fastcgi_keep_conn on;")},
        (NGINX, 4),
        (
            {NGINX: nginx("fastcgi_pass unix:/run/php.sock; fastcgi_keep_conn off;")},
            {
                NGINX: nginx("fastcgi_pass 127.0.0.1:9000; fastcgi_keep_conn on;"),
                "etc/lastcall.toml": 'app = "shop:app"\nfastcgi = ["127.0.0.1:9000"]\n',
            },
        ),
    ),
    Case(
        "LC503",
        {NGINX: nginx("proxy_pass http://shop;", KEPT), UNIT: unit("/srv/bin/uvicorn shop:app --port 8000")},
        (NGINX, 2),
        (
            {
                NGINX: nginx("proxy_pass http://shop;", KEPT),
                UNIT: unit("/srv/bin/uvicorn shop:app --timeout-keep-alive 75"),
            },
            {NGINX: nginx("proxy_pass http://shop;", KEPT), UNIT: unit("/srv/bin/uvicorn shop:app --port 9000")},
            {NGINX: nginx("proxy_pass http://shop;", KEPT), UNIT: unit(GUNICORN)},
            {
                NGINX: nginx("x y;", KEPT.replace("8;", "8; keepalive_timeout 4s;")),
                UNIT: unit("/srv/bin/uvicorn shop:app"),
            },
        ),
    ),
    Case(
        "LC504",
        {NGINX: nginx("x y;", "upstream app { server 10.0.0.1:80; server 10.0.0.2:80; }")},
        (NGINX, 2),
        (
            {NGINX: nginx("x y;", BACK)},
            {NGINX: nginx("x y;", "upstream app { server 10.0.0.1:80; }")},
            {NGINX: nginx("x y;", "upstream app { server 10.0.0.1:80; server 10.0.0.2:80 backup; }")},
        ),
    ),
    Case(
        "LC505",
        {
            NGINX: nginx("fastcgi_pass unix:/run/php.sock; fastcgi_read_timeout 30s;"),
            FPM: FPM_OK,
            POOL: "[www]\nlisten = /run/php.sock\nrequest_terminate_timeout = 300\n",
        },
        (NGINX, 4),
        (
            {
                NGINX: nginx("fastcgi_pass unix:/run/php.sock; fastcgi_read_timeout 310s;"),
                FPM: FPM_OK,
                POOL: "[www]\nlisten = /run/php.sock\nrequest_terminate_timeout = 300\n",
            },
            {
                NGINX: nginx("fastcgi_pass unix:/run/other.sock;"),
                FPM: FPM_OK,
                POOL: "[www]\nlisten = /run/php.sock\nrequest_terminate_timeout = 300\n",
            },
        ),
    ),
    Case(
        "LC506",
        {NGINX: "worker_shutdown_timeout 10s;\n" + nginx("proxy_pass http://app;")},
        (NGINX, 1),
        (
            {NGINX: "worker_shutdown_timeout 5m;\n" + nginx("proxy_pass http://app;")},
            {NGINX: nginx("proxy_pass http://app;")},
            {NGINX: "worker_shutdown_timeout 10s;\n" + nginx("proxy_read_timeout 5s;")},
        ),
    ),
    Case(
        "LC507",
        {"etc/haproxy/haproxy.cfg": "defaults\n  retry-on all-retryable-errors\n"},
        ("etc/haproxy/haproxy.cfg", 2),
        (
            {"etc/haproxy/haproxy.cfg": "defaults\n  retry-on conn-failure\n"},
            {
                "etc/haproxy/haproxy.cfg": "backend a\n  retry-on all-retryable-errors\n  http-request disable-l7-retry\n"
            },
        ),
    ),
    Case(
        "LC508",
        {"etc/haproxy/haproxy.cfg": "global\n  hard-stop-after 5s\n"},
        ("etc/haproxy/haproxy.cfg", 2),
        (
            {"etc/haproxy/haproxy.cfg": "global\n  hard-stop-after 5m\n"},
            {"etc/haproxy/haproxy.cfg": "global\n  # hard-stop-after 5s\n"},
        ),
    ),
    Case(
        "LC509",
        {UNIT: unit("/srv/bin/granian --interface asgi shop:app")},
        (UNIT, 5),
        (
            {
                UNIT: unit("/srv/bin/granian --interface asgi shop:app"),
                "etc/sysctl.d/10.conf": "net.ipv4.tcp_migrate_req = 1\n",
            },
            {UNIT: unit(GUNICORN)},
        ),
    ),
)

SYSCTL = "etc/sysctl.d/99-local.conf"
ENV = "srv/shop/.env"
MONGO = "etc/mongod.conf"

DATA_CASES = (
    Case(
        "LC601",
        {SYSCTL: "net.core.somaxconn = 128\n", POOL: "[www]\nlisten = 9000\nlisten.backlog = 511\n"},
        (POOL, 3),
        (
            {SYSCTL: "net.core.somaxconn = 4096\n", POOL: "[www]\nlisten.backlog = 511\n"},
            {POOL: "[www]\nlisten.backlog = 65535\n"},
            {SYSCTL: "net.core.somaxconn = 128\n", POOL: "[www]\n;listen.backlog = 511\n"},
        ),
    ),
    Case(
        "LC601",
        {SYSCTL: "net.core.somaxconn=1024\n", NGINX: "http { server {\n listen 80 backlog=2048; } }\n"},
        (NGINX, 2),
        ({SYSCTL: "net.core.somaxconn=1024\n", NGINX: "http { server {\n listen 80; } }\n"},),
    ),
    Case(
        "LC602",
        {SYSCTL: "net.ipv4.tcp_abort_on_overflow=1\n"},
        (SYSCTL, 1),
        ({SYSCTL: "#net.ipv4.tcp_abort_on_overflow=1\nnet.ipv4.tcp_abort_on_overflow=0\n"},),
    ),
    Case(
        "LC603",
        {ENV: "DEBUG=0\nMONGO_URL=mongodb://shop:pw@db/shop?w=0\n"},
        (ENV, 2),
        (
            {ENV: "MONGO_URL=mongodb://shop:pw@db/shop?w=majority\n"},
            {ENV: "#MONGO_URL=mongodb://db/shop?w=0\n"},
        ),
    ),
    Case(
        "LC603",
        {"srv/shop/settings.py": "URL = 'mongodb+srv://db/shop?retryWrites=true&journal=false'\n"},
        ("srv/shop/settings.py", 1),
        ({"srv/shop/settings.py": "URL = 'mongodb+srv://db/shop?retryWrites=true'\n"},),
    ),
    Case(
        "LC604",
        {ENV: "MONGO_URL=mongodb://a,b,c/shop?replicaSet=rs0&w=1\n"},
        (ENV, 1),
        ({ENV: "MONGO_URL=mongodb://a,b,c/shop?replicaSet=rs0\n"},),
    ),
    Case(
        "LC605",
        {MONGO: "storage:\n  dbPath: /x\n  journal:\n    enabled: false\n"},
        (MONGO, 4),
        (
            {MONGO: "storage:\n  journal:\n    enabled: true\n"},
            {MONGO: "storage:\n  journal:\n    # enabled: false\n  x:\n    enabled: false\n"},
        ),
    ),
)

OWN = "etc/lastcall.toml"

OWN_CASES = (
    Case("LC701", {OWN: 'app = "shop:app"\nworkrs = 4\n'}, (OWN, 2), ({OWN: 'app = "shop:app"\nworkers = 4\n'},)),
    Case(
        "LC702",
        {OWN: 'request_timeout = "5m"\ndrain_timeout = "1m"\n'},
        (OWN, 2),
        (
            {OWN: 'request_timeout = "5m"\ndrain_timeout = "6m"\n'},
            {OWN: 'request_timeout = "5m"\ndrain_timeout = 0\n'},
            {OWN: "workers = 2\n"},
        ),
    ),
    Case("LC703", {OWN: "daemon = true\n"}, (OWN, 1), ({OWN: 'daemon = true\nhold = "30s"\n'}, {OWN: "workers = 2\n"})),
    Case("LC704", {OWN: 'custody = "off"\n'}, (OWN, 1), ({OWN: 'custody = "on"\n'},)),
    Case("LC705", {OWN: 'lame_duck = "10s"\n'}, (OWN, 1), ({OWN: 'lame_duck = "10s"\nready_path = "/ready"\n'},)),
)

CASES = (
    *PHP_CASES,
    *ORDER_CASES,
    *UNIT_CASES,
    *PROGRAM_CASES,
    *CONTAINER_CASES,
    *FRONT_CASES,
    *DATA_CASES,
    *OWN_CASES,
)
