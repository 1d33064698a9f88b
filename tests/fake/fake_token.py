"""A token server: RFC 6749 refresh and RFC 8628 device codes, and the endpoint at which Dovecot asks whose a token is.

    server = FakeToken(pki=None)        # over http on an address of its own, or https with a (ca, certificate, key)
    server.refresh = "secret"           # what is exchanged; server.rotates: each exchange makes another one
    server.mode = "gone|hang|garbage|huge|endless|invalid_grant|503|redirect"
"""
import http.server
import json
import secrets
import ssl
import threading
import time
import urllib.parse

from fake_smtp import free_address


class FakeToken(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, pki=None, life=3600, name=None):
        self.lock = threading.Lock()
        self.life, self.rotates, self.mode = life, False, None
        self.refresh = "1//first-refresh/token"
        self.client = ("postern-client", "client+secret/1=")
        self.access = {}                # token: time of its end
        self.issued, self.wrong = [], 0     # wrong: how often an unknown refresh token came
        self.requests = []              # forms, in order
        self.before_answer = None       # called with the answer once it stands, before it is sent
        self.device = {"interval": 1, "answers": []}    # answers to polls, in order; "" grants
        self.released = threading.Event()
        super().__init__((free_address(), 8443), Handler)
        self.scheme = "http"
        if pki:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pki[1], pki[2])
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self.host = name or self.server_address[0]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self):
        return f"{self.scheme}://{self.host}:8443"

    def oauth2(self, folder, more="", secret=True, device=True):
        """An oauth2 section, and its files."""
        file, client = folder / "refresh.token", folder / "client.secret"
        for path, text in ((file, self.refresh), (client, self.client[1])):
            path.touch(mode=0o600)
            path.write_text(text + "\n")
        return (f'oauth2 {{ token-url = "{self.url}/token" client-id = "{self.client[0]}" refresh-token-file = "{file}" '
                + (f'client-secret-file = "{client}" ' if secret else "")
                + (f'device-url = "{self.url}/device" scope = "mail.send offline" ' if device else "") + more + " }")

    def exchanges(self):
        return [form for form in list(self.requests) if form.get("grant_type") == "refresh_token"]

    def revoke(self):
        """No access token given so far is good any more."""
        with self.lock:
            self.access.clear()

    def is_good(self, token):
        with self.lock:
            return self.access.get(token, 0) > time.time()

    def new_access(self):
        token = "ya29.access-" + secrets.token_urlsafe(24) + "=="
        self.access[token] = time.time() + self.life
        self.issued.append(token)
        return token

    def grant(self):
        answer = {"access_token": self.new_access(), "token_type": "Bearer", "expires_in": self.life}
        if self.rotates:
            self.refresh = "1//next-" + secrets.token_urlsafe(24)
            answer["refresh_token"] = self.refresh
        return answer

    def answer(self, path, form):
        """(status, object)"""
        with self.lock:
            self.requests.append(form)
            mode = self.mode
            if mode == "invalid_grant":
                return 400, {"error": "invalid_grant", "error_description": f"Token {form.get('refresh_token')} has been revoked."}
            if mode == "503":
                return 503, {"error": "temporarily_unavailable"}
            if path == "/device":
                return 200, {"device_code": "device-code-1", "user_code": "WDJB-MJHT", "expires_in": 60,
                             "verification_uri": f"{self.url}/enter", "interval": self.device["interval"]}
            if form.get("client_id") != self.client[0] or form.get("client_secret", self.client[1]) != self.client[1]:
                return 401, {"error": "invalid_client"}
            if form.get("grant_type") == "refresh_token":
                if form.get("refresh_token") != self.refresh:
                    self.wrong += 1
                    return 400, {"error": "invalid_grant", "error_description": "unknown refresh token"}
                return 200, self.grant()
            word = self.device["answers"].pop(0) if self.device["answers"] else ""
            if word:
                return 400, {"error": word}
            self.refresh = "1//login-" + secrets.token_urlsafe(12)
            return 200, {"access_token": self.new_access(), "token_type": "bearer", "refresh_token": self.refresh,
                         "expires_in": self.life}

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        form["time"] = time.time()
        server = self.server
        if server.mode in ("hang", "huge", "endless", "redirect", "garbage", "gone"):
            server.requests.append(form)
            return getattr(self, server.mode)()
        status, answer = server.answer(self.path, form)
        if server.before_answer:
            server.before_answer(answer)
        self.send(status, json.dumps(answer).encode())

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        good = self.server.is_good(query.get("access_token", [""])[0])
        self.send(200 if good else 401, json.dumps({"email": "bob", "active": "true"} if good else {"error": "invalid_token"}).encode())

    def send(self, status, body):
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def hang(self):
        self.server.released.wait(60)
        self.close_connection = True

    def gone(self):
        self.close_connection = True

    def garbage(self):
        self.send(200, b"\x00<html>{\"access_token\": \x80")

    def redirect(self):
        self.send_response(302)
        self.send_header("Location", self.server.url + "/token")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def huge(self):
        """A gigabyte, unless somebody hangs up."""
        self.stream(b"Content-Length: 1073741824\r\n\r\n{\"access_token\": \"", b"a" * (1 << 20), 1024)

    def endless(self):
        """Headers without end."""
        self.stream(b"X: y\r\n", b"X-More: " + b"a" * 4000 + b"\r\n", 100000)

    def stream(self, head, piece, count):
        self.close_connection = True
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n" + head)
            for _ in range(count):
                self.wfile.write(piece)
        except OSError:
            pass

    def log_message(self, *_):
        pass
