"""Real mail and DNS programs as private peers: Postfix, Exim, OpenSMTPD, smtp-sink, Dovecot, nsd with signed zones,
Redis.

Debian's packages unpacked by `make deps-test`, own configuration, own loopback address, nothing installed. Each is a
Daemon with .address, .port, .relay(); the mail servers keep what they accept: .files() are the raw files, .messages()
what stands in them. Postfix, Exim and OpenSMTPD need root.
"""
import fcntl
import os
import pwd
import re
import shutil
import subprocess
import threading
from pathlib import Path

from fake_smtp import free_address
from harness import ROOT, Daemon, listens, wait_until

PEERS = (ROOT / "build/peers").resolve()
SHARED_LIBRARIES = Path("/usr/lib/postfix")     # where Postfix's programs look for their own libraries
HELPERS = Path("/usr/libexec/opensmtpd")        # likewise OpenSMTPD


def missing():
    """Why the peers cannot run here, or None."""
    for package in ("postfix", "exim4-daemon-light", "opensmtpd"):
        if not (PEERS / package / ".complete").exists():
            return f"{package} is not in {PEERS}: make deps-test"
    for program in ("nsd", "ldns-signzone", "swaks", "dovecot", "redis-server"):
        if not shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            return f"{program} is not installed: make deps-test"
    return None


def link(place, target):
    """A built-in path of an unpacked program; a real installation is left alone."""
    if place.is_symlink() or not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}")
        fresh.symlink_to(target)
        fresh.replace(place)


def own(path, user):
    shutil.chown(path, user, pwd.getpwnam(user).pw_gid)


def ini(text):
    """Configuration text: | stands for a new line."""
    return re.sub(r" *\| *", "\n", text.strip()) + "\n"


def make_pki(folder, name="mx.peer.example"):
    """A CA and a certificate for name; returns (ca, certificate, key) paths."""
    ca, key = folder / "ca.pem", folder / f"{name}.key"
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    run = lambda *a: subprocess.run(["openssl", "req", "-x509", *new, *a], check=True, capture_output=True)
    run("-subj", "/CN=test-ca", "-keyout", folder / "ca.key", "-out", ca, "-addext", "basicConstraints=critical,CA:TRUE")
    run("-CA", ca, "-CAkey", folder / "ca.key", "-subj", f"/CN={name}", "-keyout", key, "-out", folder / f"{name}.crt",
        "-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=critical,CA:FALSE")
    return ca, folder / f"{name}.crt", key


class MailPeer(Daemon):
    def relay(self, name="out", more="tls = none"):
        return f'server "{name}" {{ method = relay host = "{self.address}" port = {self.port} {more} }}\n'

    def files(self):
        return [p for p in self.mail.rglob("*") if p.is_file() and not p.name.endswith(".lock") and "tmp" not in p.parts[-2:]]

    def messages(self):
        """What has arrived: raw bytes with LF, the peer's own trace header on top."""
        return [path.read_bytes() for path in self.files()]

    def wait(self, count=1, timeout=30):
        wait_until(lambda: len(self.files()) >= count, timeout, f"{count} messages at {type(self).__name__}")
        return self.messages()


class Postfix(MailPeer):
    """smtpd that accepts every domain into one maildir. pki: (ca, certificate, key) offers STARTTLS.
    more, services: further lines of main.cf and master.cf."""
    SERVICES = """pickup unix n - n 60 1 pickup | qmgr unix n - n 300 1 qmgr | tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite | cleanup unix n - n - 0 cleanup | bounce unix - - n - 0 bounce | defer unix - - n - 0 bounce
trace unix - - n - 0 bounce | error unix - - n - - error | retry unix - - n - - error | virtual unix - n n - - virtual
proxymap unix - - n - - proxymap | showq unix n - n - - showq | anvil unix - - n - 1 anvil | postlog unix-dgram n - n - 1 postlogd"""

    def __init__(self, folder, pki=None, more="", services="", address=None):
        link(SHARED_LIBRARIES, PEERS / "postfix/usr/lib/postfix")
        self.address, self.port = address or free_address(), 2525
        d = self.folder = folder / f"postfix-{self.address}"
        self.mail = d / "mail/box/new"
        for sub in ("etc", "spool", "data", "mail"):
            (d / sub).mkdir(parents=True)
        own(d / "data", "postfix"), own(d / "mail", "vmail")
        vmail, postfix = pwd.getpwnam("vmail"), PEERS / "postfix"
        (d / "etc/main.cf").write_text(ini(f"""
compatibility_level = 3.6 | mail_owner = postfix | setgid_group = postdrop | queue_directory = {d}/spool | data_directory = {d}/data
command_directory = {postfix}/usr/sbin | daemon_directory = {postfix}/usr/lib/postfix/sbin | shlib_directory = {SHARED_LIBRARIES}
meta_directory = {postfix}/etc/postfix | maillog_file = {d}/log | maillog_file_prefixes = {d} | myhostname = mx.peer.example | mydestination =
inet_interfaces = all | inet_protocols = ipv4 | mynetworks = 127.0.0.0/8 | alias_maps = | alias_database =
virtual_mailbox_domains = static:all | virtual_mailbox_maps = static:box/ | virtual_mailbox_base = {d}/mail | virtual_minimum_uid = 1
virtual_uid_maps = static:{vmail.pw_uid} | virtual_gid_maps = static:{vmail.pw_gid} | virtual_mailbox_limit = 0 | message_size_limit = 60000000
smtpd_recipient_limit = 1000 | local_header_rewrite_clients = | smtpd_peername_lookup = no | smtpd_relay_restrictions = reject_unauth_destination
""" + (f"smtpd_tls_security_level = may | smtpd_tls_chain_files = {pki[2]}, {pki[1]}" if pki else "") + "|" + more))
        (d / "etc/master.cf").write_text(ini(f"{self.address}:2525 inet n - n - - smtpd | {self.SERVICES} | {services}"))
        for path in (d / "etc").iterdir():
            os.utime(path, (1e9, 1e9))          # changed this very second makes the daemons wait
        env = {k: v for k, v in os.environ.items() if k != "MAIL_CONFIG"}
        subprocess.run([postfix / "usr/sbin/postfix", "-c", d / "etc", "check"], env=env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)  # makes the queue folders
        super().__init__([postfix / "usr/lib/postfix/sbin/master", "-c", d / "etc", "-d"], d, "postfix",
                         lambda: listens(self.address, self.port), env=env)


class Exim(MailPeer):
    """Accepts everything, a file per message. pki offers STARTTLS; auth: PLAIN and CRAM-MD5 for bob, who has to log in."""
    AUTH = """begin authenticators | plain: | driver = plaintext | public_name = PLAIN | server_prompts = :
server_condition = ${if and{{eq{$auth2}{bob}}{eq{$auth3}{bob+pass/2=}}}}
cram: | driver = cram_md5 | public_name = CRAM-MD5 | server_secret = ${if eq{$auth1}{bob}{bob+pass/2=}fail}"""

    def __init__(self, folder, address=None, pki=None, auth=False):
        self.address, self.port = address or free_address(), 2525
        d = self.folder = folder / f"exim-{self.address}"
        self.mail = d / "mail"
        for sub in ("spool", "log", "mail"):
            (d / sub).mkdir(parents=True)
            own(d / sub, "Debian-exim")
        own(d, "Debian-exim")
        exim = PEERS / "exim4-daemon-light/usr/sbin/exim4"
        conf = d / "exim.conf"
        conf.write_text(ini(f"""
exim_path = {exim} | spool_directory = {d}/spool | log_file_path = {d}/log/%slog | pid_file_path = {d}/exim.pid
primary_hostname = mx.peer.example | local_interfaces = {self.address} | daemon_smtp_ports = 2525 | host_lookup = | never_users =
keep_environment = | message_size_limit = 60M | smtp_accept_max = 200
{f"tls_advertise_hosts = * | tls_certificate = {d}/crt | tls_privatekey = {d}/key" if pki else "tls_advertise_hosts ="}
acl_smtp_rcpt = {"rcpt | begin acl | rcpt: | accept authenticated = *" if auth else "accept"}
begin routers | all: | driver = accept | transport = file
begin transports | file: | driver = appendfile | directory = {d}/mail | create_directory | user = Debian-exim | return_path_add | envelope_to_add
{self.AUTH if auth else ""}"""))
        conf.chmod(0o644)
        for name, path in zip(("crt", "key"), pki[1:] if pki else ()):
            shutil.copy(path, d / name)
            own(d / name, "Debian-exim")
            (d / name).chmod(0o600)
        super().__init__([exim, "-C", conf, "-bdf"], d, "exim", lambda: listens(self.address, self.port))

    def files(self):
        return [p for p in self.mail.iterdir() if p.name.startswith("q")]


class OpenSmtpd(MailPeer):
    """One at a time: its spool and its socket are built in. Compare bodies only: it completes bare addresses.
    pki: it offers STARTTLS and, as Debian 12 builds it, fails in every handshake."""

    def __init__(self, folder, address=None, pki=None):
        self.lock = open("/tmp/postern-test-opensmtpd.lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        link(HELPERS, PEERS / "opensmtpd/usr/libexec/opensmtpd")
        self.address, self.port = address or free_address(), 2525
        d = self.folder = folder / f"opensmtpd-{self.address}"
        self.mail = d / "mail/new"
        (d / "mail").mkdir(parents=True)
        own(d / "mail", "vmail")
        Path("/var/lib/opensmtpd/empty").mkdir(parents=True, exist_ok=True)
        shutil.rmtree("/var/spool/smtpd", ignore_errors=True)
        Path("/var/spool/smtpd").mkdir()
        Path("/var/spool/smtpd").chmod(0o711)
        offer = f'pki mx.peer.example cert "{pki[1]}"\npki mx.peer.example key "{pki[2]}"\n' if pki else ""
        tls = "tls pki mx.peer.example " if pki else ""
        (d / "smtpd.conf").write_text(f'{offer}smtp max-message-size 60M\nlisten on {self.address} port 2525 {tls}hostname mx.peer.example\n'
                                      f'action box maildir "{d}/mail" virtual {{ "@" = "vmail" }}\nmatch from any for any action box\n')
        super().__init__([PEERS / "opensmtpd/usr/sbin/smtpd", "-d", "-f", d / "smtpd.conf"], d, "opensmtpd",
                         lambda: listens(self.address, self.port))

    def stop(self, timeout=20):
        status = super().stop(timeout)
        shutil.rmtree("/var/spool/smtpd", ignore_errors=True)
        self.lock.close()
        return status


class SmtpSink(MailPeer):
    """Postfix's smtp-sink: a file per message; it drops all CRs, so it proves nothing about line ends."""

    def __init__(self, folder, *options, address=None):
        link(SHARED_LIBRARIES, PEERS / "postfix/usr/lib/postfix")
        self.address, self.port = address or free_address(), 2525
        self.mail = self.folder = folder / f"smtp-sink-{self.address}"
        self.mail.mkdir()
        own(self.mail, "nobody")
        super().__init__([PEERS / "postfix/usr/sbin/smtp-sink", "-u", "nobody", "-a", "-d", f"{self.mail}/%M.", "-h", "mx.peer.example",
                          *options, f"{self.address}:{self.port}", "200"], folder, self.mail.name, lambda: listens(self.address, self.port))

    def files(self):
        """Written in place, and an empty line is the last of it."""
        return [path for path in super().files() if path.read_bytes().endswith(b"\n\n")]


class Dovecot(Daemon):
    """POP3 (1110, TLS 995), submission (1587, TLS 1465) that hands on to `to`, and .socket for Postfix's SASL.

    Users bob and käthe, passwords in PASSWORDS. .users is the file that says so; .reload() after a change. more: further
    lines of its configuration; mechanisms: what it offers.
    """
    PASSWORDS = {"bob": "bob+pass/2=", "käthe": "grün"}

    def __init__(self, folder, pki, to=None, more="", mechanisms="plain login cram-md5 scram-sha-1 scram-sha-256",
                 clear=True, address=None):
        self.address, self.port = address or free_address(), 1587
        d = self.folder = folder / f"dovecot-{self.address}"
        (d / "home").mkdir(parents=True)
        own(d / "home", "vmail")
        self.users, self.socket, self.log_path = d / "users", d / "auth", d / "log"
        self.set_passwords(self.PASSWORDS)
        service = lambda name, port, tls: (f"service {name}-login {{ | inet_listener {name} {{ | port = {port} | }} | "
                                           f"inet_listener {name}s {{ | port = {tls} | ssl = yes | }} | }} |")
        (d / "dovecot.conf").write_text(ini(f"""
base_dir = {d}/run | state_dir = {d}/state | log_path = {d}/log | protocols = pop3 submission | listen = {self.address}
hostname = mx.peer.example | ssl = yes | ssl_cert = <{pki[1]} | ssl_key = <{pki[2]} | disable_plaintext_auth = {"no" if clear else "yes"}
auth_mechanisms = {mechanisms} | auth_username_chars = | auth_verbose = yes | auth_failure_delay = 0
mail_location = maildir:{d}/home/%u | first_valid_uid = 1 | submission_relay_host = {to.address if to else "127.0.0.1"}
submission_relay_port = {to.port if to else 9}
passdb {{ | driver = passwd-file | args = scheme=plain username_format=%u {self.users} | }}
userdb {{ | driver = static | args = uid=vmail gid=vmail home={d}/home/%u | }}
service auth {{ | unix_listener {self.socket} {{ | mode = 0666 | }} | }}
service anvil {{ | client_limit = 1000 | unix_listener anvil-auth-penalty {{ | mode = 0 | }} | }} | {service("pop3", 1110, 995)} {service("submission", 1587, 1465)} {more}"""))
        super().__init__(["/usr/sbin/dovecot", "-F", "-c", d / "dovecot.conf"], d, "dovecot",
                         lambda: listens(self.address, 1110) and listens(self.address, 1587))

    def set_passwords(self, passwords):
        fresh = self.users.with_suffix(".new")
        fresh.write_text("".join(f"{name}:{{PLAIN}}{password}\n" for name, password in passwords.items()))
        fresh.chmod(0o644)
        fresh.replace(self.users)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def logins(self, pattern=r"-login: Info: Login: "):
        """Its log's lines about logins that it took."""
        return [line for line in self.log().splitlines() if re.search(pattern, line)]


class Nsd(Daemon):
    """Authoritative for a signed root, for example. (signed) and for plain.example. (not signed).

    records: lines of the example. zone ("site1 MX 10 mx", "mx A 127.0.0.9"); plain: the same for plain.example.
    tamper: (old, new) replaced in example.'s zone after signing. .conf() is a dns {} section that validates against this root.
    """

    def __init__(self, folder, records, plain=(), tamper=None, address=None):
        self.address, self.port = address or free_address(), 5300
        d = self.folder = folder / f"nsd-{self.address}"
        d.mkdir()
        root_ds, self.anchor = self._key(".")
        example_ds, _ = self._key("example.")
        self._zone("plain.example.", "plain.zone", plain)
        self._zone("example.", "example.zone", [f"ns A {self.address}", "plain NS ns.example.", *records])
        self._sign("example.", "example.zone")
        if tamper:
            signed = d / "example.zone.signed"
            assert tamper[0] in signed.read_text()
            signed.write_text(signed.read_text().replace(*tamper))
        self._zone(".", "root.zone", ["example. NS ns.example.", f"ns.example. A {self.address}", example_ds])
        self._sign(".", "root.zone")
        user = pwd.getpwuid(os.geteuid()).pw_name
        zones = "".join(f"zone: | name: {name} | zonefile: {file} |" for name, file in (
            (".", "root.zone.signed"), ("example.", "example.zone.signed"), ("plain.example.", "plain.zone")))
        (d / "nsd.conf").write_text(ini(f"""
server: | ip-address: {self.address}@{self.port} | username: {user} | database: "" | zonesdir: {d} | pidfile: {d}/nsd.pid
xfrdfile: {d}/xfrd | zonelistfile: {d}/zl | logfile: {d}/log | server-count: 1 | remote-control: | control-enable: no | {zones}"""))
        super().__init__(["/usr/sbin/nsd", "-d", "-c", d / "nsd.conf"], d, "nsd", lambda: listens(self.address, self.port))

    def _key(self, zone):
        """Returns the DS record's text and the DNSKEY's path."""
        done = subprocess.run(["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone], cwd=self.folder, check=True,
                              capture_output=True, text=True)
        base = done.stdout.strip()
        (self.folder / f"{zone}key").write_text(base)
        return (self.folder / f"{base}.ds").read_text(), self.folder / f"{base}.key"

    def _zone(self, name, file, records):
        head = [f"$ORIGIN {name}", "$TTL 5", "@ SOA ns.example. root.example. 1 3600 900 86400 5", "@ NS ns.example."]
        (self.folder / file).write_text("\n".join([*head, *records]) + "\n")

    def _sign(self, zone, file):
        key = (self.folder / f"{zone}key").read_text()
        subprocess.run(["ldns-signzone", "-o", zone, "-f", f"{file}.signed", file, key], cwd=self.folder, check=True,
                       capture_output=True)

    def conf(self):
        return f'dns {{ servers = {{ "{self.address}@{self.port}" }} trust-anchor-file = "{self.anchor}" }}\n'


class Redis(Daemon):
    """redis-server, in memory unless options say otherwise; start_again() after it was killed."""

    PORT = 6399

    def __init__(self, folder, *options):
        self.folder, self.options, self.address, self.port = folder / "redis", options, free_address(), self.PORT
        self.folder.mkdir(exist_ok=True)
        self.start_again()

    def start_again(self):
        super().__init__(["redis-server", "--bind", self.address, "--port", self.port, "--dir", self.folder, "--save", "",
                          *self.options], self.folder, "redis", lambda: listens(self.address, self.port))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def command(self, *words):
        return subprocess.run(["redis-cli", "-h", self.address, "-p", str(self.port), *map(str, words)], check=True,
                              capture_output=True, text=True, timeout=60).stdout.strip()

    def option(self, more=""):
        """What makes a Postern count there."""
        return f'limits-store = "redis://{self.address}:{self.port}/3" {more}\n'
