// The event stream. Not an EventSource, which cannot send a token.

const SILENT_FOR = 10_000 // milliseconds; the gateway sends something each second

export class Refused extends Error {
  constructor(status, text) {
    super(text || `status ${status}`)
    this.status = status
  }
}

export const authorized = (token) => (token ? { Authorization: `Bearer ${token}` } : {})

// Yields each message. Ends or throws when the connection does; throws Refused if there is none.
export async function* messages(url, token, signal) {
  const silence = new AbortController()
  const ended = AbortSignal.any([signal, silence.signal])
  let timer = setTimeout(() => silence.abort(), SILENT_FOR)
  try {
    const response = await fetch(url, { headers: authorized(token), cache: 'no-store', signal: ended })
    if (!response.ok) throw new Refused(response.status, (await response.text()).trim())
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    let rest = ''
    for (;;) {
      const { value, done } = await reader.read()
      if (done) return
      clearTimeout(timer)
      timer = setTimeout(() => silence.abort(), SILENT_FOR)
      const blocks = (rest + value).split('\r\n\r\n')
      rest = blocks.pop()
      for (const block of blocks) {
        const data = block.split('\r\n').filter((line) => line.startsWith('data: '))
        if (data.length) yield JSON.parse(data.map((line) => line.slice(6)).join('\n'))
      }
    }
  } finally {
    clearTimeout(timer)
    silence.abort()
  }
}
