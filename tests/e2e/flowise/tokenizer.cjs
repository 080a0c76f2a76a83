// Preloaded into Flowise (NODE_OPTIONS=--require): without internet LangChain would try for minutes to download the
// tables it counts tokens with, after the last token of every streamed answer. They also lie in js-tiktoken.
const path = require('node:path')
const fromFlowise = require('node:module').createRequire(path.join(process.cwd(), 'package.json'))
const TABLE = /^https:\/\/tiktoken\.pages\.dev\/js\/(\w+)\.json$/
const download = globalThis.fetch

globalThis.fetch = async (input, init) => {
    const name = TABLE.exec(String(input?.url ?? input))?.[1]
    if (!name) return download(input, init)
    const table = fromFlowise(`js-tiktoken/ranks/${name}`)
    return Response.json(table.default ?? table)
}
