// A table whose rows have keys. A row keeps its element for as long as it is shown, so that focus, selection and open
// details stay while the numbers in it change.

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

export class KeyedTable {
  // columns: {title, text(row, key), kind: class of the cell, tone(row): another class, isHeader, make(row, key): a node
  // that is made once}. `refuge`: gets the focus when the row that has it goes away.
  constructor(table, columns, nothing, refuge) {
    this.columns = columns
    this.rows = new Map()
    this.refuge = refuge
    const titles = columns.map(({ title, kind }) => element('th', { scope: 'col', className: kind ?? '', textContent: title }))
    table.append(element('thead', {}, element('tr', {}, ...titles)))
    this.body = table.appendChild(element('tbody'))
    this.nothing = element('tr', {}, element('td', { colSpan: columns.length, className: 'empty', textContent: nothing }))
  }

  // entries: [key, row] in the order in which they are shown
  show(entries) {
    const keys = new Set(entries.map(([key]) => key))
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null
    for (const [key, shown] of this.rows) {
      if (keys.has(key)) continue
      shown.remove()
      this.rows.delete(key)
    }
    let before = this.body.firstChild
    for (const [key, row] of entries) {
      const shown = this.rows.get(key) ?? this.make(key, row)
      this.update(shown, key, row)
      if (shown === before) before = before.nextSibling
      else this.body.insertBefore(shown, before)
    }
    if (entries.length) this.nothing.remove()
    else this.body.append(this.nothing)
    if (focused && !focused.isConnected) this.refuge?.focus()
    else if (focused && focused !== document.activeElement) focused.focus() // its row has moved
  }

  make(key, row) {
    const cells = this.columns.map((column) => {
      const cell = column.isHeader ? element('th', { scope: 'row' }) : element('td')
      cell.className = column.kind ?? ''
      if (column.make) cell.append(column.make(row, key))
      return cell
    })
    const made = element('tr', {}, ...cells)
    this.rows.set(key, made)
    return made
  }

  update(shown, key, row) {
    this.columns.forEach((column, at) => {
      const cell = shown.cells[at]
      if (column.tone) {
        const name = `${column.kind ?? ''} ${column.tone(row)}`
        if (cell.className !== name) cell.className = name
      }
      if (!column.text) return
      const text = column.text(row, key)
      if (cell.textContent === text) return
      cell.textContent = text
      if (text.length > 24) cell.title = text
      else cell.removeAttribute('title')
    })
  }
}

// The options of a select, after the first one; the choice stays.
export function offer(select, names) {
  const known = [...select.options].slice(1).map((option) => option.value)
  if (known.join('\n') === names.join('\n')) return
  const chosen = select.value
  while (select.options.length > 1) select.remove(1)
  for (const name of names) select.add(element('option', { value: name, textContent: name }))
  select.value = names.includes(chosen) ? chosen : ''
}

// A list of terms with their values; what has not changed is not touched.
export function describe(list, terms) {
  terms.forEach(([term, text], at) => {
    const shown = list.children[at] ?? list.appendChild(element('div', {}, element('dt'), element('dd')))
    if (shown.firstChild.textContent !== term) shown.firstChild.textContent = term
    if (shown.lastChild.textContent !== text) shown.lastChild.textContent = text
  })
  while (list.children.length > terms.length) list.lastChild.remove()
}
