# The picture of `make bench`: four panels of horizontal bars from chart.dat, where each block has
# lines of a title, a figure and a colour (1: peers, 2: session guard).
set terminal svg size 1100,760 font "sans-serif,13" background "white" noenhanced
set output folder."/chart.svg"
data = folder."/chart.dat"

array titles[4] = ["CPU of the worker per request, µs", "instructions per request, added", \
    "zone per session, bytes", "look-up, ns of CPU"]
array limits[4] = [0, 1700, 320, 300]

array rows[4]
array most[4]
do for [panel=1:4] {
    stats data index panel-1 using 2 nooutput
    rows[panel] = int(STATS_records)
    most[panel] = STATS_max > limits[panel] ? STATS_max : limits[panel]
}

set multiplot layout 2,2 margins 0.215,0.985,0.06,0.94 spacing 0.185,0.13
set style fill solid 0.9 noborder
set boxwidth 0.7
set border 2 lc rgb "#888888"
set ytics nomirror scale 0
unset xtics
unset key
do for [panel=1:4] {
    set title titles[panel] font ",14"
    set xrange [0:most[panel]*1.22]
    set yrange [-0.6:rows[panel]-0.4]
    unset arrow
    unset label
    if (limits[panel] > 0) {
        set arrow from limits[panel],-0.6 to limits[panel],rows[panel]-0.4 nohead lc rgb "#c0392b" dt 2 lw 1.5
        set label sprintf("must be ≤ %d", limits[panel]) at limits[panel],-0.6 offset 0.3,-0.7 \
            font ",11" tc rgb "#c0392b"
    }
    plot data index panel-1 using ($2/2):0:($2/2):(0.35):($3==2 ? 0x2471a3 : 0xaab7b8):yticlabels(1) \
             with boxxyerror lc rgb variable, \
         data index panel-1 using 2:0:(sprintf($2 < 100 ? "%.1f" : "%.0f", $2)) \
             with labels left offset 0.6,0 font ",11"
}
unset multiplot
