/* Answers of HTTP that go on: a bounded queue between Lua, which writes when something happens, and
 * a client that reads as fast as it can. A client that is too slow is cut off. */
#ifndef PUL_HTTP_FEED_H
#define PUL_HTTP_FEED_H

#include <lua.h>
#include <microhttpd.h>

#include "base/list.h"

#define PUL_FEED_CLASS "peerup.http_feed"

typedef struct pul_feed pul_feed;

/* How a feed has its server's MHD run again. */
typedef struct pul_feed_server {
  pu_list feeds; /* whose answers are under way */
  void (*wake)(struct pul_feed_server *server);
} pul_feed_server;

/* pul_feed_open_class registers the class; pul_feed_new is http.feed(max_bytes). */
void pul_feed_open_class(lua_State *L);
int pul_feed_new(lua_State *L);
/* pul_feed_response makes the response of |feed|, a box's pointer, on |conn|; NULL when it is
 * closed, in use, or there is no memory. */
struct MHD_Response *pul_feed_response(pul_feed *feed, pul_feed_server *server,
                                       struct MHD_Connection *conn);
/* pul_feed_end_all ends the feeds of a server that closes: none is suspended then. */
void pul_feed_end_all(pul_feed_server *server);

#endif
