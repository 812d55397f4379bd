"""The constants of docs/protocol.md section 18; a test compares the two.

Each carries its unit, its reason where it needs one, and its section there.
"""

PROTOCOL_VERSION = 1  # section 5
DEFAULT_PORT = 7777  # UDP port; where a supernode listens unless told otherwise; section 14
LAN_PORT = 7778  # UDP port; where supernodes hear LAN queries; section 14
EDGE_ID_BYTES = 16  # bytes; section 3.1
KEY_BYTES = 32  # bytes; section 3.1
FINGERPRINT_BYTES = 20  # bytes; section 3.2
MAX_COMMUNITY_NAME_BYTES = 64  # bytes; section 3.3
ARGON2_ITERATIONS = 2  # section 3.3
ARGON2_MEMORY_KIB = 65536  # KiB; section 3.3
ARGON2_LANES = 1  # section 3.3
BASE_DATAGRAM_BYTES = 1200  # bytes; RFC 8899's BASE_PLPMTU: 1280 less headers and some; section 9
MAX_DATAGRAM_BYTES = 8972  # bytes; 9000 less 20 (IPv4) less 8 (UDP); section 4
TAG_BYTES = 16  # bytes; section 6.1
TRANSPORT_HEADER_BYTES = 16  # bytes; section 6.1
INNER_HEADER_BYTES = 4  # bytes; section 8
FRAGMENT_HEADER_BYTES = 8  # bytes; inner header included; section 8.2
RELAY_HEADER_BYTES = 12  # bytes; section 11
REKEY_AFTER_TIME = 120.0  # s; section 6.2
REKEY_RESPONDER_GRACE = 15.0  # s; so that one side starts, as a rule; section 6.2
REKEY_AFTER_DATAGRAMS = 1152921504606846976  # datagrams; 2^60; section 6.2
REJECT_AFTER_TIME = 180.0  # s; section 6.2
REPLAY_WINDOW_DATAGRAMS = 4096  # datagrams; section 6.3
HANDSHAKE_RETRY_JITTER = 0.2  # share of the interval; section 5.3
COOKIE_LIFETIME = 120.0  # s; section 7
SUPERNODE_LOAD_INITIATIONS_PER_SECOND = 100  # 1/s; section 7
EDGE_LOAD_INITIATIONS_PER_SECOND = 20  # 1/s; section 7
MIN_FRAME_BYTES = 14  # bytes; section 8.1
MAX_FRAME_BYTES = 9018  # bytes; section 8.1
MAX_FRAGMENTS = 16  # section 8.2
MAX_INCOMPLETE_FRAMES = 64  # frames per peer; section 8.2
REASSEMBLY_TIMEOUT = 1.0  # s; section 8.2
MAX_MESSAGE_BYTES = 1152  # bytes; sealed and relayed it fits BASE_DATAGRAM_BYTES; section 9
MAX_PING_BYTES = 8936  # bytes; sealed it fills MAX_DATAGRAM_BYTES; section 9
MAX_NAME_BYTES = 64  # bytes; section 9
MAX_MEMBERS_PER_MESSAGE = 9  # members; section 9
MAX_CANDIDATES = 32  # per peer; section 12.1
DIGEST_GRACE = 1.0  # s; section 10.4
LOOKUP_INTERVAL = 2.0  # s; section 10.4
SUPERNODE_HEARTBEAT_INTERVAL = 5.0  # s; section 10.5
SUPERNODE_RETRY_INTERVAL = 1.0  # s; section 10.5
SUPERNODE_MAX_UNANSWERED = 5  # pings; section 10.5
REGISTRATION_LIFETIME = 20.0  # s; silence after which a supernode forgets an edge; section 10.5
RETURN_AFTER_SHUTDOWN = 1.0  # s; section 10.6
PUNCH_TTL = 2  # hops; past our own router, not as far as the peer's; section 12.2
INITIATE_FALLBACK = 1.0  # s; section 12.2
PROBE_ROUND_INTERVAL = 60.0  # s; section 12.2
TOLD_ADDRESS_BURST = 64  # pings; to an address that peers merely named; section 12.2
TOLD_ADDRESS_RATE = 4.0  # 1/s; after that; section 12.2
RTT_GAIN = 0.005  # s; section 12.3
RTT_GAIN_SHARE = 0.1  # section 12.3
IN_USE_TIMEOUT = 30.0  # s; section 12.4
HEARTBEAT_INTERVAL = 3.0  # s; section 12.4
IDLE_HEARTBEAT_INTERVAL = 25.0  # s; under the usual 30 s of NAT timers; section 12.4
TRUST_LIFETIME = 6.5  # s; section 12.4
SILENCE_TIMEOUT = 0.5  # s; section 12.4
ANSWER_TIMEOUT = 0.3  # s; at least, and 3 round trips; section 12.4
PATH_TIMEOUT = 20.0  # s; section 12.4
PATH_MAX_UNANSWERED = 6  # pings; section 12.4
PEER_SILENCE_TIMEOUT = 10.0  # s; section 12.6
MTU_PROBES = 3  # probes; RFC 8899's MAX_PROBES; section 12.7
MTU_RAISE_INTERVAL = 600.0  # s; RFC 8899's PMTU_RAISE_TIMER; section 12.7
MAC_LIFETIME = 300.0  # s; IEEE 802.1D's ageing time; section 13
MAX_MACS_PER_PEER = 4096  # addresses; section 13
MAX_MACS = 16384  # addresses; section 13
LEASE_LIFETIME_DAYS = 30  # days; section 15.1
SOURCE_HANDSHAKE_BURST = 20  # handshakes; section 17
SOURCE_HANDSHAKE_RATE = 5.0  # 1/s; section 17
LOOKUP_BURST = 5  # lookups; section 17
LOOKUP_RATE = 1.0  # 1/s; section 17
RELAY_BURST_BYTES = 16777216  # bytes; section 17
RELAY_RATE_BYTES = 67108864  # bytes/s; section 17
MAX_AMPLIFICATION = 3  # times; section 17
STREAM_QUEUE_BYTES = 65536  # bytes; what waits for a stream to take it; section 19
STREAM_QUEUE_TIME = 0.25  # s; what has waited longer is stale; section 19
STREAM_QUICK_BYTES = 256  # bytes; datagrams up to so many go first; section 19

# Seconds; the last one repeats; section 5.3.
HANDSHAKE_RETRY_INTERVALS = (0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 3.0)
# Seconds after the session is up; section 12.2.
PROBE_OFFSETS = (0.0, 0.1, 0.3, 0.7, 1.5, 3.0, 6.0, 12.0, 25.0)
LAN_GROUP_IPV4 = "239.255.77.78"  # section 14
LAN_GROUP_IPV6 = "ff02::7778"  # section 14
