// What each table of the page shows of the state.
import { KeyedTable, describe, element, offer } from './table.js'
import { bytes, clock, count, date, kindOf, ofAll, percent, plain, seconds } from './text.js'

const RATE_OVER = 5 // seconds
const STAGES = {
  before: 'not sent yet',
  conversation: 'waits for its conversation',
  connection: 'waits for a connection',
  flowise: 'waits for Flowise',
  first_token: 'no token yet',
  streaming: 'streams',
  no_client: 'client has left',
  ending: 'is being ended'
}
const by = (id) => document.getElementById(id)
const contains = (row, text) => !text || JSON.stringify(row).toLowerCase().includes(text.toLowerCase())

export class Views {
  // onEnd(key, row): somebody wants to end this run
  constructor(onEnd) {
    this.state = null
    this.seen = new Map() // of each run, [time, tokens] of the last seconds
    this.runs = new KeyedTable(by('runs-table'), this.runColumns(onEnd), 'No run is open.', by('runs-title'))
    this.routes = new KeyedTable(by('routes-table'), ROUTES, 'No request has come.')
    this.callers = new KeyedTable(by('callers-table'), CALLERS, 'No request has come.')
    this.servers = new KeyedTable(by('servers-table'), SERVERS, 'No server is known.')
    this.processes = new KeyedTable(by('processes-table'), PROCESSES, 'No process has answered.')
    this.requests = new KeyedTable(by('requests-table'), REQUESTS, 'No request has ended.', by('requests-title'))
    for (const id of ['runs-text', 'runs-order', 'callers-text', 'requests-text', 'requests-outcome', 'requests-route'])
      by(id).addEventListener('input', () => this.state && this.show(this.state))
  }

  show(state) {
    this.state = state
    this.now = state.now
    this.showOverview(state)
    this.showRuns(state)
    this.showRequests(state)
    const routes = [...state.routes].sort(([one], [other]) => (one < other ? -1 : 1))
    this.routes.show(routes)
    by('routes-count').textContent = ofAll(Math.max(routes.length - 1, 0), state.gateway.routes, 'routes with requests in the last hour', 'route with requests in the last hour')
    const callers = [...state.callers].filter(([, row]) => contains(row, by('callers-text').value))
    this.callers.show(callers.sort(([, one], [, other]) => other.last - one.last))
    by('callers-count').textContent = ofAll(callers.length, Math.max(state.callers.size, state.gateway.callers), 'callers, each with each of its routes; the latest first', 'caller, with each of its routes')
    this.servers.show([...state.servers])
    this.processes.show([...state.processes].sort(([one], [other]) => Number(one) - Number(other)))
  }

  showOverview({ gateway, reload, store, processes, routes }) {
    const hour = routes.get('')
    const workers = [...processes.keys()].filter(Boolean).length
    const stored = store.is_shared ? `shared, reached by ${store.up_for} of ${store.seen_by}` : 'in memory'
    describe(by('overview'), [
      ['Open runs', count(gateway.open_runs)],
      ['Waiting requests', count(gateway.waiting)],
      ['Requests a second', gateway.per_second.toFixed(1)],
      ['First token p50, p95 of the hour', hour ? `${seconds(hour.p50) || 'none'}, ${seconds(hour.p95) || 'none'}` : 'none'],
      ['Limits are counted', stored],
      ['Workers', workers ? count(workers) : 'one process'],
      ['Configuration of', date(reload.loaded_at)],
      ...(reload.refused_at ? [['Refused reload', `${date(reload.refused_at)}: ${plain(reload.refused)}`]] : []),
      ...(reload.needs_restart.length ? [['Waits for a restart', plain(reload.needs_restart.join(', '))]] : [])
    ])
    by('version').textContent = gateway.version
  }

  // -- runs --

  runColumns(onEnd) {
    return [
      { title: 'Route', isHeader: true, text: (row) => plain(row.route) },
      { title: 'Caller', text: (row) => plain(row.caller || row.client) },
      { title: 'State', text: (row) => STAGES[row.stage] ?? row.stage },
      { title: 'Age', kind: 'number', text: (row) => seconds(this.now - row.since) },
      { title: 'First token', kind: 'number', text: (row) => seconds(row.first_token) },
      { title: 'Tokens', kind: 'number', text: (row) => count(row.tokens) },
      { title: 'Tokens/s', kind: 'number', text: (row, key) => this.rate(key) },
      {
        title: 'Action',
        make: (row, key) => {
          const button = element('button', { type: 'button', className: 'danger', textContent: 'End' })
          button.setAttribute('aria-label', `End the run ${plain(row.request_id)} of ${plain(row.route)}`)
          button.addEventListener('click', () => onEnd(key, row))
          return button
        }
      },
      { title: 'Server', text: (row) => plain(row.server) },
      { title: 'Client', text: (row) => plain(row.client) },
      { title: 'User agent', text: (row) => plain(row.agent) },
      { title: 'Worker', kind: 'number', text: (row) => row.worker },
      { title: 'Request id', text: (row) => plain(row.request_id) }
    ]
  }

  // notes the tokens of this moment; called once for each message
  note({ runs, now }) {
    for (const key of this.seen.keys()) if (!runs.has(key)) this.seen.delete(key)
    for (const [key, row] of runs) {
      const seen = this.seen.get(key) ?? []
      seen.push([now, row.tokens])
      while (seen.length > 1 && now - seen[0][0] > RATE_OVER) seen.shift()
      this.seen.set(key, seen)
    }
  }

  rate(key) {
    const seen = this.seen.get(key) ?? []
    if (seen.length < 2) return ''
    const [[then, before], [now, after]] = [seen[0], seen.at(-1)]
    return now > then ? ((after - before) / (now - then)).toFixed(1) : ''
  }

  showRuns({ runs, gateway }) {
    const orders = {
      newest: ([, one], [, other]) => other.since - one.since,
      oldest: ([, one], [, other]) => one.since - other.since,
      tokens: ([, one], [, other]) => other.tokens - one.tokens
    }
    const shown = [...runs].filter(([, row]) => contains(row, by('runs-text').value))
    this.runs.show(shown.sort(orders[by('runs-order').value]))
    const all = Math.max(runs.size, gateway.open_runs + gateway.waiting)
    const which = runs.size < all ? '; more than these are not sent: the oldest and the newest are' : ''
    by('runs-count').textContent = ofAll(shown.length, all, 'runs and waiting requests', 'run or waiting request') + which
  }

  // -- requests --

  showRequests({ requests }) {
    const lines = [...requests.values()]
    offer(by('requests-outcome'), [...new Set(lines.map((line) => line.outcome))].sort())
    offer(by('requests-route'), [...new Set(lines.map((line) => line.route).filter(Boolean))].sort())
    const text = by('requests-text').value
    const [outcome, route] = [by('requests-outcome').value, by('requests-route').value]
    const shown = [...requests].filter(
      ([, line]) => contains(line, text) && (!outcome || line.outcome === outcome) && (!route || line.route === route)
    )
    this.requests.show(shown.sort(([one], [other]) => Number(other) - Number(one)))
    by('requests-count').textContent = ofAll(shown.length, requests.size, 'of the last requests')
  }
}

const outcomes = (row) =>
  Object.entries(row.outcomes)
    .sort(([, one], [, other]) => other - one)
    .map(([outcome, number]) => `${count(number)} ${outcome}`)
    .join(', ')
const total = (row) => Object.values(row.outcomes).reduce((sum, more) => sum + more, 0)

const ROUTES = [
  { title: 'Route', isHeader: true, text: (row, key) => plain(key) || 'all routes' },
  { title: 'Requests/s', kind: 'number', text: (row) => row.per_second.toFixed(1) },
  { title: 'Requests', kind: 'number', text: (row) => count(total(row)) },
  { title: 'Outcomes', kind: 'wide', text: outcomes },
  { title: 'First token p50', kind: 'number', text: (row) => seconds(row.p50) },
  { title: 'First token p95', kind: 'number', text: (row) => seconds(row.p95) }
]

const left = (limit) => {
  const reset = limit.reset_s ? `, one more in ${seconds(limit.reset_s)}` : ''
  return `${plain(limit.name)}: ${count(limit.remaining)} of ${count(limit.limit)} ${limit.kind}${reset}`
}

const CALLERS = [
  { title: 'Caller', isHeader: true, text: (row) => plain(row.caller) },
  { title: 'Route', text: (row) => plain(row.route) },
  { title: 'Requests', kind: 'number', text: (row) => count(row.requests) },
  { title: 'Not ok', kind: 'number', text: (row) => count(row.not_ok) },
  { title: 'Tokens in', kind: 'number', text: (row) => count(row.tokens_in) },
  { title: 'Tokens out', kind: 'number', text: (row) => count(row.tokens_out) },
  { title: 'Limits have left', kind: 'wide', text: (row) => row.limits.map(left).join('; ') },
  { title: 'Last', kind: 'number', text: (row) => clock(row.last) }
]

const health = (row) => {
  const state = row.up_for === row.seen_by ? 'up' : row.up_for ? `up for ${row.up_for} of ${row.seen_by} workers` : 'down'
  return row.reason ? `${state}: ${plain(row.reason)}` : state
}

const SERVERS = [
  { title: 'Upstream', isHeader: true, text: (row) => plain(row.upstream) },
  { title: 'Server', text: (row) => plain(row.server) },
  { title: 'Address', text: (row) => plain(row.address) },
  { title: 'Health', kind: 'wide', tone: (row) => (row.up_for === row.seen_by ? 'ok' : 'failed'), text: health },
  { title: 'Open requests', kind: 'number', text: (row) => count(row.runs) }
]

const PROCESSES = [
  { title: 'Process', isHeader: true, text: (row, key) => (key ? `worker ${key}` : row.workers ? 'parent of the workers' : 'gateway') },
  { title: 'State', tone: (row) => (row.state === 'ready' ? 'ok' : 'failed'), text: (row) => row.state },
  { title: 'CPU', kind: 'number', text: (row) => percent(row.cpu) },
  { title: 'Memory', kind: 'number', text: (row) => bytes(row.memory) },
  { title: 'Process id', kind: 'number', text: (row) => plain(row.pid) }
]

const REQUESTS = [
  { title: 'Ended', text: (line) => clock(line.ended) },
  { title: 'Route', isHeader: true, text: (line) => plain(line.route ?? line.endpoint) },
  { title: 'Caller', text: (line) => plain(line.caller ?? line.client) },
  { title: 'Status', kind: 'number', text: (line) => plain(line.status) },
  { title: 'Outcome', tone: (line) => kindOf(line.outcome), text: (line) => plain(line.outcome) },
  { title: 'First token', kind: 'number', text: (line) => seconds(line.ttft_s) },
  { title: 'Tokens', kind: 'number', text: (line) => (line.tokens_in === null ? '' : `${count(line.tokens_in)} + ${count(line.tokens_out)}`) },
  { title: 'Duration', kind: 'number', text: (line) => seconds(line.duration_s) },
  { title: 'Error', kind: 'wide', text: (line) => plain(line.error ?? line.limited_by) },
  {
    title: 'Log line',
    kind: 'wide',
    make: (line) => {
      const summary = element('summary', { textContent: 'show' })
      summary.setAttribute('aria-label', `show the log line of request ${plain(line.request_id)}`)
      return element('details', {}, summary, element('pre', { textContent: lineText(line) }))
    }
  }
]

const lineText = (line) => plain(JSON.stringify(Object.fromEntries(Object.entries(line).filter(([, value]) => value !== null))))
