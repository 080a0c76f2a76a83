// Requests of the last hour by route, as stacked bars: one path for each kind of outcome.
import { KINDS, count, kindOf, plain } from './text.js'
import { element } from './table.js'

const SVG = 'http://www.w3.org/2000/svg'
const HEIGHT = 40
const WORDS = { ok: 'answered', refused: 'refused', left: 'where the client has left', failed: 'failed' }

export class Charts {
  constructor(place) {
    this.place = place
    this.charts = new Map()
  }

  // hour: slot number → {route: {outcome: count}}; the route '' is the sum of all
  show(hour, gateway, now) {
    const last = Math.floor(now / gateway.slot_s)
    const names = new Set([''])
    for (const row of hour.values()) for (const name of Object.keys(row)) names.add(name)
    for (const name of [...this.charts.keys()].filter((name) => !names.has(name))) {
      this.charts.get(name).figure.remove()
      this.charts.delete(name)
    }
    for (const name of [...names].sort()) {
      if (!this.charts.has(name)) this.add(name, gateway.slots)
      draw(this.charts.get(name), bars(hour, name, last, gateway.slots), gateway, plain(name) || 'All routes')
    }
  }

  add(name, slots) {
    const svg = document.createElementNS(SVG, 'svg')
    svg.setAttribute('class', 'chart')
    svg.setAttribute('role', 'img')
    svg.setAttribute('viewBox', `0 0 ${slots} ${HEIGHT}`)
    svg.setAttribute('preserveAspectRatio', 'none')
    const base = svg.appendChild(document.createElementNS(SVG, 'path'))
    base.setAttribute('class', 'base')
    base.setAttribute('d', `M0 ${HEIGHT}H${slots}`)
    const paths = KINDS.map((kind) => {
      const path = svg.appendChild(document.createElementNS(SVG, 'path'))
      path.setAttribute('class', kind)
      return path
    })
    const title = element('b')
    const most = element('span')
    const figure = element('figure', {}, element('figcaption', {}, title, most), svg)
    const after = [...this.charts.keys()].filter((other) => other > name).sort()[0]
    this.place.insertBefore(figure, after === undefined ? null : this.charts.get(after).figure)
    this.charts.set(name, { figure, svg, paths, title, most, label: '' })
  }
}

// for each slot the counts by kind
function bars(hour, name, last, slots) {
  const found = Array.from({ length: slots }, () => [0, 0, 0, 0])
  for (const [number, row] of hour) {
    const bar = found[slots - 1 - (last - Number(number))]
    if (bar) for (const [outcome, more] of Object.entries(row[name] ?? {})) bar[KINDS.indexOf(kindOf(outcome))] += more
  }
  return found
}

function draw(chart, found, gateway, name) {
  const sums = found.map((bar) => bar.reduce((sum, more) => sum + more, 0))
  const most = Math.max(...sums, 1)
  const parts = KINDS.map(() => '')
  found.forEach((bar, at) => {
    let top = HEIGHT
    bar.forEach((value, kind) => {
      if (!value) return
      const height = (value / most) * (HEIGHT - 1)
      top -= height
      parts[kind] += `M${at} ${top.toFixed(2)}h1v${height.toFixed(2)}h-1z`
    })
  })
  const all = sums.reduce((sum, more) => sum + more, 0)
  const ofKind = KINDS.map((kind, at) => [WORDS[kind], found.reduce((sum, bar) => sum + bar[at], 0)])
  const words = ofKind.filter(([, number]) => number).map(([word, number]) => `${count(number)} ${word}`)
  const label = `${name}: ${count(all)} requests in the last hour${words.length ? `, ${words.join(', ')}` : ''}`
  const changed = label + parts.join()
  if (chart.label === changed) return
  chart.label = changed
  chart.paths.forEach((path, kind) => path.setAttribute('d', parts[kind]))
  chart.svg.setAttribute('aria-label', label)
  chart.title.textContent = name
  chart.most.textContent = `${count(all)} · at most ${(Math.max(...sums) / gateway.slot_s).toFixed(1)}/s`
}
