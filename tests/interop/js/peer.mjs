// The js-libp2p peer of the interoperability tests: the official transport contract, from environment
// variables (transport, muxer, security, is_dialer, ip, redis_addr, test_timeout_seconds).
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { createClient } from 'redis'

const env = process.env
const seconds = Number(env.test_timeout_seconds ?? '180')
for (const [name, want] of [['transport', 'tcp'], ['security', 'noise'], ['muxer', 'yamux']]) {
  if (env[name] !== want) {
    throw new Error(`${name}=${env[name]} is not tested by this peer`)
  }
}

const isDialer = env.is_dialer === 'true'
const store = createClient({ url: `redis://${env.redis_addr ?? 'redis:6379'}` })
await store.connect()
const host = await createLibp2p({
  addresses: { listen: isDialer ? [] : [`/ip4/${env.ip ?? '0.0.0.0'}/tcp/0`] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
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
