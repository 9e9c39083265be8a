// Every slide of a folder: nextflow run main.nf --slides '/data/slides/*.svs' --results /data/results
// Results go where all tries see them, not into the work folder of one: a later try continues.

params.slides = 'slides/*.svs'
params.results = 'results'

process SEGMENT {
    cpus 8
    memory '16 GB'
    time '4h'
    // 75: its own time budget is spent; 128 + n: a signal. The same command continues.
    errorStrategy { task.exitStatus == 75 || task.exitStatus in 129..143 ? 'retry' : 'finish' }
    maxRetries 5

    input:
    val slide

    output:
    val result

    script:
    result = "${file(params.results).toAbsolutePath()}/${slide.baseName}.tilseg"
    """
    tilseg run '${slide}' -o '${result}' --memory 12GB --stop-after 230m
    """
}

workflow {
    SEGMENT(Channel.fromPath(params.slides)).view()
}
