// The js-libp2p peer of the interoperability tests: the official transport contract, from environment
// variables (transport, muxer, security, is_dialer, ip, redis_addr, test_timeout_seconds).
import { noise } from '@chainsafe/libp2p-noise'
import { quic } from '@chainsafe/libp2p-quic'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { createClient } from 'redis'

const env = process.env
const seconds = Number(env.test_timeout_seconds ?? '180')
const ip = env.ip ?? '0.0.0.0'

// oneOf answers with the entry that a variable names.
function oneOf (name, entries) {
  const entry = entries[env[name]]
  if (entry === undefined) {
    throw new Error(`${name}=${env[name]} is not tested by this peer`)
  }
  return entry
}

const transport = oneOf('transport', {
  tcp: { make: tcp, listen: `/ip4/${ip}/tcp/0` },
  ws: { make: webSockets, listen: `/ip4/${ip}/tcp/0/ws` },
  'quic-v1': { make: quic, listen: `/ip4/${ip}/udp/0/quic-v1` }
})
const upgrade = env.transport === 'quic-v1'
  ? {}
  : {
      connectionEncrypters: [oneOf('security', { noise, tls })()],
      streamMuxers: [oneOf('muxer', { yamux })()]
    }

const isDialer = env.is_dialer === 'true'
const store = createClient({ url: `redis://${env.redis_addr ?? 'redis:6379'}` })
await store.connect()
const host = await createLibp2p({
  addresses: { listen: isDialer ? [] : [transport.listen] },
  transports: [transport.make()],
  ...upgrade,
  services: { ping: ping(), identify: identify() },
  connectionGater: { denyDialMultiaddr: () => false }
})
const deadline = setTimeout(() => process.exit(1), seconds * 1000)

if (isDialer) {
  const found = await store.blPop('listenerAddr', seconds)
  const address = multiaddr(found.element)
  const start = performance.now()
  await host.dial(address)
  const rtt = await host.services.ping.ping(address)
  console.log(JSON.stringify({
    handshakePlusOneRTTMillis: performance.now() - start,
    pingRTTMilllis: rtt
  }))
  clearTimeout(deadline)
  await host.stop()
  await store.quit()
  process.exit(0)
} else {
  await store.rPush('listenerAddr', host.getMultiaddrs()[0].toString())
}
