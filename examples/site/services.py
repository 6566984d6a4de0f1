"""A small site: static pages, an API, a worker, and PostgreSQL on the node that keeps the data.

What is likely to change stands at the top. README.md says what the nodes need.
"""

from constellation_core import (
    Bind,
    Dependency,
    ExecCheck,
    HTTPCheck,
    InitJob,
    LogOptions,
    Placement,
    Port,
    Preference,
    Resources,
    Route,
    Secret,
    Security,
    Service,
    Tmpfs,
    UpdatePolicy,
    Volume,
)

API_IMAGE = "registry.example.com/site/api:1.4.0"
DATABASE_NODE = "db-1"
PASSWORD = Secret("site-db-password", path_env="DATABASE_PASSWORD_FILE")

# Nothing of ours has to write to its own image.
_READ_ONLY = Security(read_only_root=True)
_DATABASE = {
    # Networks end at their node; another node's instance is reached by the node's name.
    "DATABASE_HOST": DATABASE_NODE,
    "DATABASE_PORT": "5432",
    "DATABASE_NAME": "site",
    "DATABASE_USER": "site",
}

postgres = Service(
    "postgres",
    image="postgres:17",
    # The image's own user, from the start: it then needs no capability.
    user="999:999",
    env={"POSTGRES_DB": "site", "POSTGRES_USER": "site"},
    secrets=(Secret("site-db-password", path_env="POSTGRES_PASSWORD_FILE"),),
    # Others know where to find it, so its port on the node is fixed.
    ports=(Port("postgres", 5432, host=5432),),
    networks=("backend",),
    volumes=(
        Volume("site-postgres", "/var/lib/postgresql/data"),
        Tmpfs("/dev/shm", size="256M"),
    ),
    check=ExecCheck(("pg_isready", "-U", "site", "-d", "site"), start_period=30),
    # Two servers on the same data would destroy it, and the data is on one node.
    mode="singleton",
    placement=Placement(nodes=(DATABASE_NODE,)),
    resources=Resources(reserve_memory="512M", limit_memory="1G", reserve_cpu=0.5),
    stop_grace=60,
)

api = Service(
    "api",
    image=API_IMAGE,
    command=("serve", "--port", "${PORT}"),
    env=_DATABASE,
    secrets=(PASSWORD,),
    user="1000:1000",
    ports=(Port("http", 8000),),
    networks=("publicnet",),
    volumes=(Tmpfs("/tmp", size="64M"),),
    routes=(Route("www.{domain}", path="/api"),),
    check=HTTPCheck("/api/health", interval=5, start_period=10),
    replicas=3,
    placement=Placement(spread=("region", "node"), max_per_node=2),
    resources=Resources(
        reserve_cpu=0.25, reserve_memory="128M", limit_memory="256M", limit_pids=100
    ),
    security=_READ_ONLY,
    update=UpdatePolicy(health_deadline=60),
    depends_on=("postgres",),
    # Once for each new version, before its first instance.
    init=(InitJob("migrate", command=("migrate",), run="revision"),),
    log=LogOptions(max_size="20M", max_files=5),
    stop_grace=30,
)

worker = Service(
    "worker",
    image=API_IMAGE,
    command=("work", "--queue", "default"),
    env=_DATABASE,
    secrets=(PASSWORD,),
    user="1000:1000",
    networks=("publicnet",),
    volumes=(Tmpfs("/tmp", size="64M"),),
    check=ExecCheck(("work", "--check"), interval=30, timeout=10),
    replicas=2,
    # Better not beside the database, but rather there than nowhere.
    placement=Placement(prefer=(Preference(apart_from=("postgres",)),)),
    resources=Resources(reserve_memory="128M", limit_memory="512M", limit_cpu=1),
    security=_READ_ONLY,
    # Jobs can wait: no need to have one worker more for a moment.
    update=UpdatePolicy(order="stop-first"),
    depends_on=(Dependency("postgres"), Dependency("api", until="started")),
    # A job may take its time.
    stop_grace=300,
)

web = Service(
    "web",
    image="nginxinc/nginx-unprivileged:1.29",
    ports=(Port("http", 8080),),
    networks=("publicnet",),
    volumes=(
        Bind("web/default.conf", "/etc/nginx/conf.d/default.conf"),
        Bind("web/html", "/usr/share/nginx/html"),
        Tmpfs("/tmp", size="64M"),
    ),
    routes=(Route("www.{domain}"),),
    check=HTTPCheck("/health", interval=5),
    replicas=2,
    placement=Placement(spread=("region", "node")),
    resources=Resources(reserve_memory="32M", limit_memory="128M"),
    security=_READ_ONLY,
)
