/* QUIC between two ends in the simulated network. */
#include "platform/sim.h"
#include "support/cmocka.h"
#include "support/quic_rig.h"
#include "transport/quic_priv.h"

#define SECOND 1000000u
#define MB (1024u * 1024u)

typedef struct pair {
  pu_sim *sim;
  rig_end a, b;
  pu_sockaddr to; /* b's */
} pair;

static void pair_begin_with(pair *p, uint64_t seed, const pu_sim_link *link,
                            pu_quic_congestion cc) {
  const pu_sockaddr ip_a = {.family = 4, .ip = {10, 0, 0, 1}},
                    ip_b = {.family = 4, .ip = {10, 0, 0, 2}};
  pu_platform *pa, *pb;
  pu_sockaddr any = {.family = 4, .port = 4001};
  assert_int_equal(pu_sim_new(seed, &p->sim), 0);
  assert_int_equal(pu_sim_add_host(p->sim, "a", &ip_a, 1, &pa), 0);
  assert_int_equal(pu_sim_add_host(p->sim, "b", &ip_b, 1, &pb), 0);
  if (link != NULL)
    assert_int_equal(pu_sim_set_link(p->sim, NULL, NULL, link), 0);
  rig_begin(&p->a, pa, 1, cc);
  rig_begin(&p->b, pb, 2, cc);
  assert_int_equal(pu_quic_listen(p->b.quic, &any, &p->to), 0);
  memcpy(p->to.ip, ip_b.ip, 4);
}

static void pair_begin(pair *p, const pu_sim_link *link) {
  pair_begin_with(p, 7, link, PU_QUIC_CUBIC);
}

static void pair_end(pair *p) {
  rig_finish(&p->a);
  rig_finish(&p->b);
  pu_sim_free(p->sim);
}

static void run(pair *p, uint64_t us) {
  (void)pu_sim_run(p->sim, pu_sim_now_us(p->sim) + us, NULL);
}

static rig_session *connect_pair(pair *p) {
  rig_dialled d;
  rig_dial(&p->a, &p->to, &d);
  run(p, 0);
  assert_true(d.done);
  assert_int_equal(d.status, 0);
  for (int i = 0; i < 200 && !d.session->open && !d.session->ended; i++)
    run(p, SECOND / 10);
  assert_true(d.session->open);
  return d.session;
}

static void connects(void **state) {
  pair p;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 10000});
  rig_session *s = connect_pair(&p);
  run(&p, SECOND);
  assert_true(pu_peer_id_equal(&s->peer, pu_key_peer_id(p.b.key)));
  assert_int_equal(p.b.session_count, 1);
  assert_true(p.b.sessions[0]->open);
  assert_true(pu_peer_id_equal(&p.b.sessions[0]->peer, pu_key_peer_id(p.a.key)));
  pu_session_info info;
  s->session->ops->info(s->session, &info);
  assert_string_equal(info.muxer, "quic");
  assert_in_range(info.rtt_us, 20000, 30000);
  print_message("memory: client %zu (peak %zu), server %zu (peak %zu)\n", s->mem.used, s->mem.peak,
                p.b.sessions[0]->mem.used, p.b.sessions[0]->mem.peak);
  /* Both sides end in peace. */
  rig_end_session(s, 0);
  run(&p, SECOND);
  assert_true(p.b.sessions[0]->ended);
  assert_int_equal(p.b.sessions[0]->status, PU_E_EOF);
  pair_end(&p);
}

static void carries(pair *p, rig_session *s, uint64_t bytes, uint64_t limit_us) {
  int status;
  rig_stream *r = rig_open(s, &status);
  assert_int_equal(status, 0);
  r->to_send = bytes;
  r->close_when_sent = true;
  s->session->ops->cork(s->session);
  rig_pump(r);
  s->session->ops->uncork(s->session);
  rig_session *peer = p->b.sessions[p->b.session_count - 1];
  const size_t before = peer->stream_count;
  for (uint64_t t = 0; t < limit_us; t += SECOND / 10) {
    run(p, SECOND / 10);
    if (peer->stream_count > before && peer->streams[before].eof)
      break;
  }
  assert_int_equal(peer->stream_count, before + 1);
  rig_stream *in = &peer->streams[before];
  assert_true(in->eof);
  assert_int_equal(in->received, bytes);
  assert_int_equal(in->hash_in, r->hash_out);
}

static void carries_bytes(void **state) {
  static const uint64_t sizes[] = {1, 1200, 65536, 5 * MB};
  pair p;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  rig_session *s = connect_pair(&p);
  run(&p, SECOND);
  for (size_t i = 0; i < PU_COUNT(sizes); i++)
    carries(&p, s, sizes[i], 30 * SECOND);
  pair_end(&p);
}

static void echoes(void **state) {
  pair p;
  int status;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 5000, .jitter_us = 2000});
  p.b.serve_echo = true;
  rig_session *s = connect_pair(&p);
  rig_stream *r[8];
  for (size_t i = 0; i < PU_COUNT(r); i++) {
    r[i] = rig_open(s, &status);
    assert_int_equal(status, 0);
    r[i]->to_send = MB / 2 * (i + 1);
    r[i]->close_when_sent = true;
    rig_pump(r[i]);
  }
  run(&p, 60 * SECOND);
  for (size_t i = 0; i < PU_COUNT(r); i++) {
    assert_true(r[i]->eof);
    assert_int_equal(r[i]->received, r[i]->to_send);
    assert_int_equal(r[i]->hash_in, r[i]->hash_out);
    s->session->ops->close_stream(s->session, r[i]->st);
    r[i]->closed = true;
  }
  pair_end(&p);
}

/* Loss to 20 %, reordering, doubles, damage, a small MTU: nothing is lost. */
static void survives_bad_links(void **state) {
  static const pu_sim_link links[] = {
      {.delay_us = 10000, .jitter_us = 10000, .loss_ppm = 10000},
      {.delay_us = 10000, .jitter_us = 5000, .loss_ppm = 50000, .duplicate_ppm = 50000},
      {.delay_us = 5000, .loss_ppm = 200000},
      {.delay_us = 5000, .mtu_bytes = 1280, .corrupt_ppm = 20000},
      {.delay_us = 5000, .rate_bytes_s = 1000000, .queue_bytes = 50000},
  };
  (void)state;
  for (size_t i = 0; i < PU_COUNT(links); i++) {
    for (uint64_t seed = 1; seed <= 5; seed++) {
      pair p;
      pair_begin_with(&p, seed * 100 + i, &links[i], PU_QUIC_CUBIC);
      rig_session *s = connect_pair(&p);
      for (int t = 0; t < 100 && (p.b.session_count == 0 || !p.b.sessions[0]->open); t++)
        run(&p, SECOND / 10);
      carries(&p, s, links[i].loss_ppm > 100000 ? MB / 4 : MB, 600 * SECOND);
      pair_end(&p);
    }
  }
}

static void changes_path(void **state) {
  pair p;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 10000, .rate_bytes_s = 2 * MB});
  rig_session *s = connect_pair(&p);
  int status;
  run(&p, SECOND);
  rig_stream *r = rig_open(s, &status);
  r->to_send = 8 * MB;
  r->close_when_sent = true;
  rig_pump(r);
  run(&p, SECOND);
  pu_sim_udp_rebind(p.sim, p.a.platform, &(pu_sockaddr){.family = 4, .ip = {10, 0, 0, 77}});
  run(&p, 30 * SECOND);
  rig_stream *in = &p.b.sessions[0]->streams[0];
  assert_true(in->eof);
  assert_int_equal(in->received, 8 * MB);
  assert_int_equal(in->hash_in, r->hash_out);
  assert_int_equal(p.b.sessions[0]->paths, 1);
  pair_end(&p);
}

static void slow_reader_holds_sender(void **state) {
  pair p;
  int status;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  rig_session *s = connect_pair(&p);
  run(&p, SECOND);
  rig_stream *r = rig_open(s, &status);
  r->to_send = 64 * MB;
  r->close_when_sent = true;
  rig_pump(r);
  run(&p, SECOND / 100);
  rig_session *peer = p.b.sessions[0];
  assert_int_equal(peer->stream_count, 1);
  peer->streams[0].hold = true;
  run(&p, 20 * SECOND);
  const uint64_t sent = r->sent;
  assert_true(sent < 40 * MB);
  run(&p, 5 * SECOND);
  assert_int_equal(r->sent, sent); /* stands */
  assert_true(peer->mem.used < 2 * PU_QUIC_WINDOW_MAX);
  peer->streams[0].hold = false;
  peer->session->ops->resume(peer->session, peer->streams[0].st);
  run(&p, 60 * SECOND);
  assert_true(peer->streams[0].eof);
  assert_int_equal(peer->streams[0].hash_in, r->hash_out);
  pair_end(&p);
}

static void resets_and_stops(void **state) {
  pair p;
  int status;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  rig_session *s = connect_pair(&p);
  run(&p, SECOND);
  rig_session *peer = p.b.sessions[0];
  /* We reset: the peer hears the code. */
  rig_stream *r = rig_open(s, &status);
  r->to_send = 1000;
  rig_pump(r);
  run(&p, SECOND);
  assert_int_equal(peer->streams[0].received, 1000);
  s->session->ops->reset(s->session, r->st, 0x1008);
  r->closed = true;
  run(&p, SECOND);
  assert_true(peer->streams[0].ended);
  assert_int_equal(peer->streams[0].status, PU_E_RESET);
  assert_int_equal(peer->streams[0].code, 0x1008);
  /* The peer closes while we send: we learn it after what it sent has arrived. */
  r = rig_open(s, &status);
  r->to_send = 100 * MB;
  rig_pump(r);
  run(&p, SECOND / 50);
  rig_stream *in = &peer->streams[1];
  in->to_send = 5000;
  rig_pump(in);
  peer->session->ops->close_stream(peer->session, in->st);
  in->closed = true;
  run(&p, 2 * SECOND);
  assert_int_equal(r->received, 5000);
  assert_true(r->eof);
  assert_true(r->ended); /* after the end of what it sent */
  assert_int_equal(r->status, PU_E_RESET);
  /* What is written in one breath with the close arrives, although a packet full of another
   * stream's bytes stops the peer's sending before it. */
  rig_stream *other = rig_open(s, &status);
  r = rig_open(s, &status);
  other->to_send = r->to_send = 10;
  rig_pump(other);
  rig_pump(r);
  run(&p, SECOND);
  in = &peer->streams[3];
  in->to_send = 200;
  peer->streams[2].to_send = 5000;
  peer->session->ops->cork(peer->session);
  rig_pump(&peer->streams[2]);
  rig_pump(in);
  peer->session->ops->close_stream(peer->session, in->st);
  peer->session->ops->uncork(peer->session);
  in->closed = true;
  run(&p, 2 * SECOND);
  assert_int_equal(other->received, 5000);
  assert_int_equal(r->received, 200);
  assert_true(r->eof);
  /* And the connection's window is whole again. */
  carries(&p, s, 30 * MB, 60 * SECOND);
  pair_end(&p);
}

/* The peer stops streams that wait for its window and gives none of it back, while what it has
 * written waits for ours: each writer learns it at once and not with the end, and nothing that
 * comes is lost. */
static void stops_of_blocked_writers(void **state) {
  enum { MANY = 40, STAY = 36, ANSWER = 600000 };
  rig_stream *writers[MANY];
  pair p;
  int status;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  rig_session *s = connect_pair(&p);
  run(&p, SECOND);
  rig_session *peer = p.b.sessions[0];
  for (size_t i = 0; i < MANY; i++) {
    writers[i] = rig_open(s, &status);
    writers[i]->to_send = 1;
    rig_pump(writers[i]);
  }
  run(&p, SECOND);
  assert_int_equal(peer->stream_count, MANY);
  for (size_t i = 0; i < MANY; i++) {
    peer->streams[i].hold = writers[i]->hold = true;
    writers[i]->to_send = 10 * MB;
    rig_pump(writers[i]);
    peer->streams[i].to_send = i < STAY ? 0 : ANSWER;
    rig_pump(&peer->streams[i]);
  }
  run(&p, 5 * SECOND);
  for (size_t i = 0; i < MANY; i++)
    assert_true(writers[i]->sent < 10 * MB);
  for (size_t i = STAY; i < MANY; i++) {
    rig_stream *in = &peer->streams[i];
    assert_int_equal(in->sent, ANSWER);
    quic_stream *st = (quic_stream *)in->st;
    in->closed = true;
    st->attached = false; /* our own close would open the window */
    assert_int_equal(pu_ngtcp2_shutdown_stream_read(st->session->conn, st->id, 0), 0);
    pu_quic_session_dirty(st->session);
  }
  run(&p, SECOND / 10);
  for (size_t i = 0; i < MANY; i++) {
    assert_int_equal(writers[i]->sent == 10 * MB, i >= STAY);
    assert_false(writers[i]->eof || writers[i]->ended);
  }
  for (size_t i = STAY; i < MANY; i++) {
    writers[i]->hold = false;
    s->session->ops->resume(s->session, writers[i]->st);
  }
  run(&p, SECOND);
  for (size_t i = STAY; i < MANY; i++)
    assert_int_equal(writers[i]->received, ANSWER);
  pair_end(&p);
}

static void refuses(void **state) {
  pair p;
  rig_dialled d;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  /* Another peer than was wanted. */
  p.a.expected = *pu_key_peer_id(p.a.key);
  rig_dial(&p.a, &p.to, &d);
  run(&p, 5 * SECOND);
  assert_true(d.session->ended);
  assert_int_equal(d.session->status, PU_E_PEER_MISMATCH);
  assert_false(d.session->secured);
  assert_true(p.b.sessions[0]->ended);
  assert_false(p.b.sessions[0]->open);
  p.a.expected = (pu_peer_id){0};
  /* The policy says no after the handshake. */
  p.b.secured_says = PU_E_DENIED;
  rig_dial(&p.a, &p.to, &d);
  run(&p, 5 * SECOND);
  assert_true(d.session->ended);
  assert_int_equal(d.session->status, PU_E_RESET);
  assert_string_equal(d.session->why, "the peer's policy does not allow us");
  p.b.secured_says = 0;
  /* No connection at all. */
  p.b.refuse = PU_E_LIMIT;
  rig_dial(&p.a, &p.to, &d);
  run(&p, 5 * SECOND);
  assert_true(d.session->ended);
  assert_int_equal(d.session->status, PU_E_REFUSED);
  p.b.refuse = 0;
  /* Nobody there. */
  pu_sockaddr nobody = p.to;
  nobody.port = 9;
  rig_dial(&p.a, &nobody, &d);
  run(&p, 30 * SECOND);
  assert_true(d.session->ended);
  assert_int_equal(d.session->status, PU_E_TIMEOUT);
  rig_reap(&p.a);
  rig_reap(&p.b);
  (void)connect_pair(&p);
  pair_end(&p);
}

static void idle_and_gone(void **state) {
  pair p;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  rig_session *s = connect_pair(&p);
  run(&p, 300 * SECOND);
  assert_false(s->ended); /* kept alive */
  assert_int_equal(pu_sim_set_link(p.sim, NULL, NULL, &(pu_sim_link){.down = true}), 0);
  run(&p, 60 * SECOND); /* a ping, and 30 s of silence */
  assert_true(s->ended);
  assert_int_equal(s->status, PU_E_TIMEOUT);
  assert_true(p.b.sessions[0]->ended);
  pair_end(&p);
}

/* A node that has restarted knows nothing of the connection and says so. */
static void stateless_reset(void **state) {
  pair p;
  int status;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  rig_session *s = connect_pair(&p);
  run(&p, SECOND);
  assert_int_equal(pu_sim_set_link(p.sim, NULL, NULL, &(pu_sim_link){.down = true}), 0);
  pu_platform *platform = p.b.platform;
  rig_finish(&p.b); /* its farewell is lost */
  assert_int_equal(pu_sim_set_link(p.sim, NULL, NULL, &(pu_sim_link){.delay_us = 1000}), 0);
  rig_begin(&p.b, platform, 2, PU_QUIC_CUBIC);
  pu_sockaddr any = {.family = 4, .port = 4001}, bound;
  assert_int_equal(pu_quic_listen(p.b.quic, &any, &bound), 0);
  rig_stream *r = rig_open(s, &status);
  r->to_send = 1000;
  rig_pump(r);
  run(&p, 2 * SECOND);
  assert_true(s->ended);
  assert_int_equal(s->status, PU_E_RESET);
  pair_end(&p);
}

/* What a stranger sends. */
typedef struct flood {
  pu_udp *udp;
} flood;

static void flood_event(void *data) {
  (void)data;
}
static const pu_udp_events flood_events = {flood_event, flood_event};

static void flood_begin(pair *p, flood *f, pu_platform **platform) {
  const pu_sockaddr ip = {.family = 4, .ip = {10, 0, 0, 66}};
  assert_int_equal(pu_sim_add_host(p->sim, "stranger", &ip, 1, platform), 0);
  assert_int_equal(pu_udp_open(*platform, &ip, &flood_events, f, &f->udp), 0);
}

/* 100,000 Initials that begin rightly and are rubbish behind: memory stays flat. */
static void floods_of_rubbish(void **state) {
  pair p;
  flood f;
  uint8_t packet[1200];
  pu_platform *platform;
  size_t peak = 0;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  flood_begin(&p, &f, &platform);
  for (unsigned i = 0; i < 100000; i++) {
    static const uint8_t head[] = {0xc3, 0, 0, 0, 1, 8};
    memset(packet, (int)i, sizeof packet);
    memcpy(packet, head, sizeof head);
    memcpy(packet + 6, &i, sizeof i);
    packet[14] = 8;
    packet[23] = 0;    /* no token */
    packet[24] = 0x44; /* 1,172 bytes follow */
    packet[25] = 0x94;
    const pu_datagrams d = {.remote = p.to, .data = packet, .len = sizeof packet, .segment = 1200};
    assert_int_equal(pu_udp_send(f.udp, &d), 1200);
    if (i % 100 == 99) {
      run(&p, 2000);
      rig_reap(&p.b);
    }
    if (p.b.mem.used > peak)
      peak = p.b.mem.used;
  }
  assert_true(peak < 2 * MB);
  rig_session *s = connect_pair(&p);
  assert_true(s->open);
  pu_udp_close(f.udp);
  pair_end(&p);
}

/* Right Initials whose senders hear nothing: above a number only Retry is answered, which costs
 * nothing, and a real client gets in by it. */
static void retries_under_load(void **state) {
  pair p;
  pu_platform *platform;
  const pu_sockaddr ip = {.family = 4, .ip = {10, 0, 0, 66}};
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  assert_int_equal(pu_sim_add_host(p.sim, "stranger", &ip, 1, &platform), 0);
  for (unsigned i = 0; i < 200; i++) {
    rig_end c;
    rig_dialled d;
    rig_begin(&c, platform, 9, PU_QUIC_CUBIC);
    rig_dial(&c, &p.to, &d);
    run(&p, 100); /* the Initial is under way */
    assert_int_equal(pu_sim_set_link(p.sim, platform, NULL, &(pu_sim_link){.down = true}), 0);
    rig_finish(&c);
    assert_int_equal(pu_sim_set_link(p.sim, platform, NULL, &(pu_sim_link){.delay_us = 1000}), 0);
    run(&p, 3000);
  }
  pu_quic_stats stats;
  pu_quic_stats_get(p.b.quic, &stats);
  assert_int_equal(stats.half_open, PU_QUIC_HALF_OPEN_MAX);
  assert_true(p.b.session_count <= PU_QUIC_HALF_OPEN_MAX);
  assert_true(stats.retries >= 200 - PU_QUIC_HALF_OPEN_MAX);
  rig_session *s = connect_pair(&p);
  run(&p, SECOND);
  carries(&p, s, MB, 10 * SECOND);
  run(&p, 30 * SECOND);
  rig_reap(&p.b);
  assert_int_equal(p.b.session_count, 1);
  pu_quic_stats_get(p.b.quic, &stats);
  assert_int_equal(stats.half_open, 0);
  pair_end(&p);
}

/* Rubbish, and parts of real packets, do not hurt. */
static void junk(void **state) {
  pair p;
  flood f;
  pu_platform *platform;
  uint8_t packet[1500];
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  rig_session *s = connect_pair(&p);
  flood_begin(&p, &f, &platform);
  for (unsigned i = 0; i < 20000; i++) {
    const size_t len = 1 + pu_sim_random(p.sim) % (i % 2 == 0 ? 64 : sizeof packet);
    pu_random(platform, packet, len);
    if (i % 3 == 0)
      packet[0] |= 0xc0;
    const pu_datagrams d = {.remote = p.to, .data = packet, .len = len, .segment = len};
    assert_true(pu_udp_send(f.udp, &d) > 0);
    if (i % 100 == 0)
      run(&p, 1000);
  }
  run(&p, 20 * SECOND);
  assert_false(s->ended);
  carries(&p, p.a.sessions[0], MB, 30 * SECOND);
  pu_udp_close(f.udp);
  pair_end(&p);
}

/* Each allocation fails in turn: the connection ends, or goes on, and nothing is lost or freed
 * twice. */
static void without_memory(void **state) {
  (void)state;
  for (uint64_t n = 1; n < 120; n += 1) {
    for (int side = 0; side < 2; side++) {
      pair p;
      rig_dialled d;
      int status;
      pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
      (side == 0 ? &p.a : &p.b)->fail_at = n;
      p.b.serve_echo = true;
      rig_dial(&p.a, &p.to, &d);
      run(&p, 2 * SECOND);
      if (d.status == 0 && d.session->open) {
        rig_stream *r = rig_open(d.session, &status);
        if (r != NULL) {
          r->to_send = 300000;
          r->close_when_sent = true;
          rig_pump(r);
        }
        run(&p, 5 * SECOND);
      }
      pair_end(&p);
    }
  }
}

static quic_endpoint *endpoint_of(const rig_end *end) {
  return PU_CONTAINER_OF(end->quic->endpoints.next, quic_endpoint, link);
}

/* A packet of nobody, behind the end of one connection and a full memory of another's bytes in one
 * batch: the look through the connections for its sender does not walk into what ended meanwhile.
 */
static void stray_packet_behind(uint64_t bytes) {
  pair p;
  int status;
  uint8_t stray[100];
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  rig_session *first = connect_pair(&p), *second = connect_pair(&p);
  run(&p, SECOND);
  assert_int_equal(p.b.session_count, 2);
  rig_stream *r = rig_open(first, &status);
  r->to_send = 5 * MB;
  rig_pump(r);
  run(&p, 5 * SECOND);
  assert_int_equal(p.b.sessions[0]->streams[0].received, 5 * MB);
  pu_udp_want(endpoint_of(&p.b)->udp, 0);
  rig_end_session(second, 0);
  r->to_send += bytes;
  rig_pump(r);
  memset(stray, 0x40, sizeof stray);
  const pu_datagrams d = {
      .remote = p.to, .data = stray, .len = sizeof stray, .segment = sizeof stray};
  /* Not so long that the sender, whom nobody answers, sends some of it again behind it. */
  run(&p, SECOND / 100);
  assert_int_equal(pu_udp_send(endpoint_of(&p.a)->udp, &d), sizeof stray);
  run(&p, SECOND / 200);
  pu_udp_want(endpoint_of(&p.b)->udp, PU_WANT_READ);
  run(&p, 5 * SECOND);
  assert_int_equal(p.b.sessions[0]->streams[0].received, r->to_send);
  assert_true(p.b.sessions[1]->ended);
  pair_end(&p);
}

static void stray_packet_in_a_full_batch(void **state) {
  (void)state;
  /* What is taken without telling ends somewhere here: the stray packet is to come just behind. */
  for (uint64_t bytes = 56000; bytes <= 60000; bytes += 250)
    stray_packet_behind(bytes);
}

/* Version 1 is what we speak; others are told so when they ask with a whole datagram, and drafts
 * that the library knows are no exception. */
static void negotiates_versions(void **state) {
  static const uint8_t versions[][4] = {
      {0xff, 0, 0, 0x1d}, {0x6b, 0x33, 0x43, 0xcf}, {0x1a, 0x2a, 0x3a, 0x4a}};
  pair p;
  flood f;
  pu_platform *platform;
  uint8_t packet[1200];
  pu_quic_stats stats;
  (void)state;
  pair_begin(&p, &(pu_sim_link){.delay_us = 1000});
  flood_begin(&p, &f, &platform);
  for (size_t i = 0; i < PU_COUNT(versions); i++) {
    memset(packet, 7, sizeof packet);
    packet[0] = 0xc3;
    memcpy(packet + 1, versions[i], 4);
    packet[5] = packet[14] = 8;
    for (size_t len = 1199; len <= 1200; len++) {
      const pu_datagrams d = {.remote = p.to, .data = packet, .len = len, .segment = len};
      assert_int_equal(pu_udp_send(f.udp, &d), len);
      run(&p, 5000);
      pu_quic_stats_get(p.b.quic, &stats);
      assert_int_equal(stats.version_negotiations, i + (len == 1200));
    }
  }
  assert_int_equal(p.b.session_count, 0);
  uint8_t memory[65536];
  pu_datagrams answer = {.data = memory, .len = sizeof memory};
  assert_int_equal(pu_udp_recv(f.udp, &answer, 1), 1);
  assert_memory_equal(memory + 1, "\0\0\0\0", 4);
  assert_memory_equal(memory + answer.segment - 4, "\0\0\0\1", 4); /* we speak 1 */
  pu_udp_close(f.udp);
  pair_end(&p);
}

static void keys(void **state) {
  static const uint8_t seed[32] = {0x42, 0x66, 0x69, 0xa2, 0x36, 0xb4, 0x14, 0xa2, 0x41, 0x6c, 0x68,
                                   0xee, 0x9b, 0x1e, 0x36, 0xba, 0x5e, 0xb8, 0xa7, 0x0e, 0xe4, 0xc6,
                                   0xf1, 0x36, 0x53, 0x9f, 0x3f, 0xca, 0x48, 0x2b, 0xb1, 0x8a};
  uint8_t reset[32], token[32];
  pu_key *key;
  (void)state;
  assert_int_equal(pu_key_from_seed(seed, &key), 0);
  pu_quic_derive_keys(key, reset, token);
  assert_int_equal(reset[0], 0x7f);
  assert_int_equal(reset[31], 0x13);
  assert_int_equal(token[0], 0xbd);
  assert_int_equal(token[31], 0xfa);
  pu_key_free(key);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keys),
      cmocka_unit_test(connects),
      cmocka_unit_test(carries_bytes),
      cmocka_unit_test(echoes),
      cmocka_unit_test(survives_bad_links),
      cmocka_unit_test(changes_path),
      cmocka_unit_test(slow_reader_holds_sender),
      cmocka_unit_test(resets_and_stops),
      cmocka_unit_test(stops_of_blocked_writers),
      cmocka_unit_test(refuses),
      cmocka_unit_test(idle_and_gone),
      cmocka_unit_test(stateless_reset),
      cmocka_unit_test(stray_packet_in_a_full_batch),
      cmocka_unit_test(negotiates_versions),
      cmocka_unit_test(floods_of_rubbish),
      cmocka_unit_test(retries_under_load),
      cmocka_unit_test(junk),
      cmocka_unit_test(without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
