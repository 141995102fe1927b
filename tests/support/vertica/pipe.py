"""A client's socket: whole messages in, bytes out, and every wait sees a cancel, the end of the client and the end
of the server."""

import select
import socket
import ssl
from struct import unpack

PATIENCE = 0.05


class Gone(Exception):
    """The client has closed the connection."""


class Stopped(Exception):
    """The statement was cancelled while its rows were sent. What is left of a message stays in the pipe."""


class Pipe:
    def __init__(self, sock):
        self.sock, self.inbox, self.outbox, self.sent = sock, bytearray(), bytearray(), 0
        sock.settimeout(PATIENCE)

    def encrypt(self, context):
        self.sock.settimeout(20)
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.sock.settimeout(PATIENCE)

    @property
    def encrypted(self):
        return isinstance(self.sock, ssl.SSLSocket)

    # In

    def fill(self):
        """Reads what has come; false if nothing has."""
        try:
            data = self.sock.recv(65536)
        except (TimeoutError, ssl.SSLWantReadError):
            return False
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        # A client that sends one command in several small packets waits for our acknowledgements.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self.inbox += data
        return True

    def need(self, count):
        while len(self.inbox) < count:
            self.fill()

    def take(self, count):
        self.need(count)
        data = bytes(self.inbox[:count])
        del self.inbox[:count]
        return data

    def opening(self):
        """A message without a type: (code, body)."""
        (size,) = unpack("!I", self.take(4))
        if not 8 <= size <= 65536:
            raise Gone
        body = self.take(size - 4)
        return unpack("!I", body[:4])[0], body[4:]

    def message(self):
        kind = self.take(1)
        (size,) = unpack("!I", self.take(4))
        return kind, self.take(size - 4)

    def look(self):
        """Sees whether the client is still there, without taking a message. Waits for at most PATIENCE."""
        readable, _, _ = select.select([self.sock], [], [], PATIENCE)
        if readable:
            self.fill()

    # Out

    def put(self, data):
        self.outbox += data

    def flush(self, cancelled=None):
        """Sends everything. With `cancelled` a cancel interrupts it."""
        while self.outbox:
            if cancelled is not None and cancelled.is_set():
                raise Stopped
            try:
                count = self.sock.send(self.outbox)
            except (TimeoutError, ssl.SSLWantWriteError):
                continue
            except OSError as error:
                raise Gone from error
            self.sent += count
            del self.outbox[:count]

    def cut(self):
        """Closes the socket without a farewell."""
        try:
            self.sock.close()
        except OSError:
            pass

    def shut(self):
        """Ends the connection, by another thread than the one that reads it."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
