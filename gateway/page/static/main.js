// Logs in, follows the event stream, and lets the views show each state.
import { Charts } from './charts.js'
import { Refused, authorized, messages } from './stream.js'
import { describe } from './table.js'
import { plain } from './text.js'
import { Views } from './views.js'

const TOKEN = 'flowise-gateway-admin-token' // in sessionStorage: until the tab is closed
const TABLES = ['runs', 'routes', 'hour', 'callers', 'servers', 'processes', 'requests']
const LONGEST_WAIT = 15_000 // milliseconds between two attempts to connect
const by = (id) => document.getElementById(id)

const views = new Views(askToEnd)
const charts = new Charts(by('charts'))
let token = sessionStorage.getItem(TOKEN) ?? ''
let following = null // what ends the present stream
let isPaused = false
let state = null

// Both are read aloud, so they change only when there is something to say.
const say = (text, where = 'connection') => {
  if (by(where).textContent !== text) by(where).textContent = text
}

// -- the stream --

async function follow() {
  following?.abort()
  const mine = (following = new AbortController())
  for (let wait = 1000; !mine.signal.aborted; wait = Math.min(wait * 2, LONGEST_WAIT)) {
    try {
      for await (const message of messages('page/events', token, mine.signal)) {
        wait = 1000
        take(message)
        opened()
      }
    } catch (error) {
      if (mine.signal.aborted) return
      if (error instanceof Refused && error.status === 401) return askForToken()
      if (error instanceof Refused) say(error.message)
      else say('The connection is lost. Trying again …')
    }
    if (!mine.signal.aborted) await new Promise((later) => setTimeout(later, wait))
  }
}

function take({ now, is_whole: isWhole, tables }) {
  if (isWhole || !state) {
    state = Object.fromEntries(TABLES.map((name) => [name, new Map()]))
  }
  state.now = now
  for (const [name, { set, gone }] of Object.entries(tables)) {
    if (!TABLES.includes(name)) {
      state[name] = set[''] ?? state[name]
      continue
    }
    for (const key of gone) state[name].delete(key)
    for (const [key, row] of Object.entries(set)) state[name].set(key, row)
  }
  views.note(state)
  views.show(state)
  charts.show(state.hour, state.gateway, now)
}

function opened() {
  say('Connected: updated once a second.')
  by('login').hidden = true
  by('content').hidden = by('pause').hidden = false
  by('forget').hidden = !token
}

// -- the token --

function askForToken() {
  const wasWrong = Boolean(token)
  forget()
  by('content').hidden = by('pause').hidden = true
  by('login').hidden = false
  say(wasWrong ? 'This is not the token of the admin port. See admin.token of its configuration.' : 'A token is needed.')
  by('token').focus()
}

function forget() {
  token = ''
  sessionStorage.removeItem(TOKEN)
  by('forget').hidden = true
}

by('login').addEventListener('submit', (event) => {
  event.preventDefault()
  token = by('token').value.trim()
  sessionStorage.setItem(TOKEN, token)
  by('token').value = ''
  say('Connecting …')
  follow()
})
by('forget').addEventListener('click', () => {
  following?.abort()
  forget()
  state = null
  askForToken()
})

// -- nobody looks --

by('pause').addEventListener('click', () => {
  isPaused = !isPaused
  by('pause').setAttribute('aria-pressed', String(isPaused))
  if (isPaused) {
    following?.abort()
    say('Paused.')
  } else follow()
})
document.addEventListener('visibilitychange', () => {
  if (isPaused || !by('login').hidden) return
  if (document.hidden) following?.abort()
  else follow()
})

// -- ending a run --

let ending = null

function askToEnd(key, row) {
  ending = key
  describe(by('end-run'), [
    ['Route', plain(row.route)],
    ['Caller', plain(row.caller || row.client)],
    ['Request id', plain(row.request_id)]
  ])
  say('', 'said')
  by('end').showModal()
  by('end-keep').focus()
}

by('end-keep').addEventListener('click', () => by('end').close())
by('end-now').addEventListener('click', async () => {
  by('end').close()
  try {
    const answer = await fetch(`page/runs/${encodeURIComponent(ending)}/end`, { method: 'POST', headers: authorized(token) })
    if (answer.status === 401) return askForToken()
    say(answer.ok ? 'The run is being ended.' : (await answer.text()).trim(), 'said')
  } catch {
    say('The gateway cannot be reached. The run goes on.', 'said')
  }
})

// -- the configuration --

async function loadConfiguration() {
  const shown = by('configuration-text')
  try {
    const answer = await fetch('config', { headers: authorized(token), cache: 'no-store' })
    if (answer.status === 401) return askForToken()
    shown.textContent = answer.ok ? JSON.stringify(await answer.json(), null, 2) : (await answer.text()).trim()
  } catch {
    shown.textContent = 'The gateway cannot be reached.'
  }
}

by('configuration-details').addEventListener('toggle', () => by('configuration-details').open && loadConfiguration())
by('configuration-load').addEventListener('click', loadConfiguration)

follow()
